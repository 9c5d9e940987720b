# For those who are used to it: `make`, `make install DESTDIR= PREFIX=/usr/local`, `make package`.
# The work is done by the scripts.
export DESTDIR PREFIX

all:
	scripts/setup

install:
	scripts/install

uninstall:
	scripts/install --uninstall

package:
	scripts/package

.PHONY: all install uninstall package

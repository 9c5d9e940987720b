//! Whether this KVM can run a guest, tried with a few instructions.

//! Containers that are made, found, claimed, broken and mended, without any machine.

use std::fs;

use super::record::tests::sample;
use super::*;

struct Ground {
    folder: tempfile::TempDir,
    containers: Containers,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let containers = Containers { folder: folder.path().join("containers") };
        Self { folder, containers }
    }

    fn create(&self, name: &str) -> Result<(Home, Record), Error> {
        self.containers.register().unwrap().create(sample("", name), |_| Ok(()))
    }

    /// A container that has ended.
    fn ended(&self, name: &str) -> Record {
        let (home, record) = self.create(name).unwrap();
        home.write_state(&State::new(Status::Running).ended(0, String::new())).unwrap();
        record
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.containers.list().unwrap().into_iter().map(|found| found.record.name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_name_belongs_to_one_container() {
    let ground = Ground::new();
    let record = ground.ended("web");
    let again = ground.create("web");
    assert!(matches!(again, Err(Error::NameInUse { id, .. }) if id == record.id));
    ground.containers.register().unwrap().rename("web", &"site".parse().unwrap()).unwrap();
    ground.ended("web");
    let taken = ground.containers.register().unwrap().rename("site", &"web".parse().unwrap());
    assert!(matches!(taken, Err(Error::NameInUse { .. })));
    assert_eq!(ground.names(), ["site", "web"]);
}

#[test]
fn containers_go_by_name_id_and_the_beginning_of_an_id() {
    let ground = Ground::new();
    let records: Vec<_> = (0..20).map(|n| ground.ended(&format!("c{n}"))).collect();
    for record in &records {
        for words in [&record.name, &record.id, &record.id[..12], &format!("/{}", record.name)] {
            assert_eq!(ground.containers.find(words).unwrap().record.id, record.id);
        }
    }
    let ambiguous = (0..16).any(|digit| {
        let digit = format!("{digit:x}");
        matches!(ground.containers.find(&digit), Err(Error::AmbiguousContainer { .. }))
    });
    assert!(ambiguous, "20 ids begin with 16 digits");
    for words in ["", "nobody", &"0".repeat(65)] {
        assert!(matches!(ground.containers.find(words), Err(Error::UnknownContainer { .. })));
    }
}

#[test]
fn a_container_is_started_by_one() {
    let ground = Ground::new();
    ground.ended("web");
    let claim = |words| ground.containers.register().unwrap().claim(words).unwrap();
    let Claim::Ours(home, _) = claim("web") else { panic!("it is free") };
    assert!(matches!(claim("web"), Claim::Taken(_)));
    let removed = ground.containers.register().unwrap().remove("web");
    assert!(matches!(removed, Err(Error::StillRunning { .. })));
    home.write_state(&State::new(Status::Running).ended(3, String::new())).unwrap();
    drop(home);
    assert_eq!(ground.containers.find("web").unwrap().state.exit_code, 3);
    ground.containers.register().unwrap().remove("web").unwrap();
    assert!(ground.names().is_empty());
}

#[test]
fn whoever_is_at_the_files_is_alone_and_holds_no_other_up() {
    let ground = Ground::new();
    ground.ended("web");
    let Visiting::Ours(found, lock) = ground.containers.visit("web").unwrap() else {
        panic!("it does not run")
    };
    assert_eq!((found.record.name.as_str(), found.state.status), ("web", Status::Exited));
    let register = ground.containers.register().unwrap();
    assert!(matches!(register.claim("web"), Err(Error::Visited { .. })));
    assert!(matches!(register.remove("web"), Err(Error::Visited { .. })));
    assert!(matches!(register.visit("web"), Err(Error::Visited { .. })));
    drop(register);
    ground.ended("other");
    ground.containers.remove("other").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ground.containers.claim("web").unwrap());
        drop(lock);
        let Claim::Ours(home, _) = waiting.join().unwrap() else { panic!("it is free") };
        let visited = ground.containers.visit("web").unwrap();
        assert!(matches!(visited, Visiting::Supervised(_)));
        home.remove_machine();
    });
}

#[test]
fn a_dead_supervisor_is_found_out() {
    let ground = Ground::new();
    let (home, record) = ground.create("web").unwrap();
    let running =
        State { started: Some(crate::moment::Moment::now()), ..State::new(Status::Running) };
    home.write_state(&running).unwrap();
    fs::write(home.path().join(CONTROL_SOCKET), "").unwrap();
    fs::write(home.path().join(OVERLAY), "mine").unwrap();
    assert_eq!(ground.containers.find("web").unwrap().state.status, Status::Running);
    drop(home);
    let found = ground.containers.find("web").unwrap();
    assert_eq!((found.state.status, found.state.exit_code), (Status::Exited, 255));
    assert!(found.state.error.contains("was killed"), "{}", found.state.error);
    assert!(found.state.finished.is_some());
    assert!(!found.folder().join(CONTROL_SOCKET).exists());
    assert_eq!(fs::read(found.folder().join(OVERLAY)).unwrap(), b"mine");
    assert_eq!(ground.containers.look_again(&record.id).unwrap().unwrap().state, found.state);
}

#[test]
fn one_that_was_to_be_removed_goes_with_its_supervisor() {
    let ground = Ground::new();
    let mut record = sample("", "web");
    record.keeping.auto_remove = true;
    let (home, _) = ground.containers.register().unwrap().create(record, |_| Ok(())).unwrap();
    assert_eq!(ground.names(), ["web"]);
    drop(home);
    assert!(ground.names().is_empty());
}

#[test]
fn the_name_of_one_that_goes_with_its_supervisor_is_free() {
    let ground = Ground::new();
    let mut record = sample("", "web");
    record.keeping.auto_remove = true;
    let (home, gone) = ground.containers.register().unwrap().create(record, |_| Ok(())).unwrap();
    assert!(matches!(ground.create("web"), Err(Error::NameInUse { id, .. }) if id == gone.id));
    drop(home);
    let unknown = ground.containers.find("/web").unwrap_err();
    assert!(matches!(unknown, Error::UnknownContainer { words } if words == "web"));
    let record = ground.ended("web");
    assert_eq!(ground.containers.find("web").unwrap().record.id, record.id);
}

#[test]
fn a_broken_record_harms_no_other() {
    let ground = Ground::new();
    for (name, document) in [("one", RECORD), ("two", STATE)] {
        let record = ground.ended(name);
        fs::write(ground.containers.folder.join(record.id).join(document), "{").unwrap();
    }
    ground.ended("well");
    assert_eq!(ground.names(), ["well"]);
    let aside = fs::read_dir(&ground.containers.folder).unwrap();
    let aside = aside
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(BROKEN));
    assert_eq!(aside.count(), 2);
    ground.ended("one");
    assert_eq!(ground.names(), ["one", "well"]);
}

#[test]
fn what_a_newer_version_wrote_is_left_alone() {
    let ground = Ground::new();
    let record = ground.ended("later");
    let path = ground.containers.folder.join(&record.id).join(RECORD);
    let newer = br#"{"version":99,"id":[1,2,3]}"#;
    fs::write(&path, newer).unwrap();
    assert!(ground.names().is_empty());
    ground.ended("now");
    assert_eq!(ground.names(), ["now"]);
    assert_eq!(fs::read(&path).unwrap(), newer);
}

#[test]
fn what_was_left_half_made_is_swept() {
    let ground = Ground::new();
    ground.ended("well");
    let containers = &ground.containers.folder;
    let id = "e".repeat(64);
    for name in [id.as_str(), "gone-x", "machine-x"] {
        fs::create_dir_all(containers.join(name).join("inner")).unwrap();
    }
    let empty = containers.join("d".repeat(64));
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join(RECORD), "").unwrap();
    let machine = ground.containers.register().unwrap().machine().unwrap();
    assert_eq!(ground.names(), ["well"]);
    ground.ended("next");
    let left = fs::read_dir(containers).unwrap().count();
    assert_eq!(left, 4, "two containers, the machine and the register's lock");
    machine.remove_machine();
    assert!(ground.folder.path().exists());
}

#[test]
fn a_draft_is_no_state_until_it_is_written_down() {
    let ground = Ground::new();
    let (home, record) = ground.create("web").unwrap();
    let state = || ground.containers.find("web").unwrap().state;
    let running = State::new(Status::Running);
    home.write_state(&running).unwrap();
    let ended = running.clone().ended(3, String::new());
    home.draft_state(ended.clone());
    assert_eq!(state(), running);
    // The moment of the end is the draft's.
    let later = running.clone().ended(3, String::new());
    home.write_state(&State { finished: None, ..later }).unwrap();
    assert_eq!(state(), ended);
    // What is written down else takes its place, and it is not used later.
    home.draft_state(running.clone().ended(4, String::new()));
    home.write_state(&running).unwrap();
    assert_eq!(state(), running);
    home.write_state(&ended).unwrap();
    assert_eq!(state(), ended);
    drop(home);
    assert_eq!(ground.containers.find(&record.id).unwrap().state, ended);
}

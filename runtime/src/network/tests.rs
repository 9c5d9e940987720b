//! Networks that are made, found, used and removed, without a host.

use std::fs;

use super::record::tests::spec;
use super::*;

struct World {
    #[expect(dead_code, reason = "removes the folder at the end")]
    folder: tempfile::TempDir,
    networks: Networks,
    places: Places,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { data: folder.path().to_owned() };
        Self { networks: Networks::open(&places), folder, places }
    }

    fn create(&self, spec: NetworkSpec) -> Result<Network, Error> {
        self.networks.lock().unwrap().create(spec, false, Taken::default(), 1500)
    }

    fn container(&self, digit: &str) -> String {
        let id = digit.repeat(64);
        fs::create_dir_all(self.places.containers().join(&id)).unwrap();
        id
    }
}

#[test]
fn networks_are_made_found_and_removed() {
    let world = World::new();
    let networks = &world.networks;
    assert_eq!(networks.list().unwrap(), []);
    let web = world.create(spec("web")).unwrap();
    let back = world.create(spec("back")).unwrap();
    assert_eq!(back.subnet.to_string(), "172.16.16.0/20");
    assert_eq!(networks.list().unwrap(), [back.clone(), web.clone()]);
    for words in ["web", &web.id, web.short_id(), &web.id[..6]] {
        assert_eq!(networks.find(words).unwrap(), web, "{words}");
    }
    for words in ["", "we", "../web", "web/x", ".lock", "\0", &"x".repeat(300)] {
        let error = networks.find(words).unwrap_err();
        assert_eq!(error.to_string(), format!("network {words} not found"));
    }
    let error = world.create(spec("web")).unwrap_err();
    assert_eq!(error.to_string(), "network with name web already exists");
    networks.lock().unwrap().remove(&web).unwrap();
    assert_eq!(networks.list().unwrap(), [back]);
    // Its addresses are anybody's again.
    assert_eq!(world.create(spec("more")).unwrap().subnet, web.subnet);
}

#[test]
fn no_two_networks_have_the_same_addresses() {
    let world = World::new();
    let asked =
        |name: &str, subnet: &str| NetworkSpec { subnet: subnet.parse().ok(), ..spec(name) };
    world.create(asked("a", "192.0.2.0/24")).unwrap();
    let error = world.create(asked("b", "192.0.0.0/16")).unwrap_err();
    assert!(error.to_string().contains("Pool overlaps"), "{error}");
    assert!(error.hint().unwrap().starts_with("network a has 192.0.2.0/24"));
    assert_eq!(world.networks.list().unwrap().len(), 1);
}

#[test]
fn a_network_that_somebody_is_on_stays() {
    let world = World::new();
    let web = world.create(spec("web")).unwrap();
    let id = world.container("a");
    let locked = world.networks.lock().unwrap();
    let applicant = Applicant { container: &id, name: "finch", ..Applicant::default() };
    let lease = locked.grant(&web, &applicant).unwrap();
    let error = locked.remove(&web).unwrap_err();
    assert!(error.to_string().contains("network web has active endpoints"), "{error}");
    assert!(error.hint().unwrap().contains("finch"));
    world.networks.leases_of(&web).end(&id, lease.address).unwrap();
    locked.remove(&web).unwrap();
}

#[test]
fn a_document_that_cannot_be_used_is_named() {
    let world = World::new();
    let web = world.create(spec("web")).unwrap();
    let path = world.places.networks().join("web/network.json");
    let newer = Network { version: VERSION + 1, ..web };
    for text in [b"{".to_vec(), Vec::new(), serde_json::to_vec(&newer).unwrap()] {
        fs::write(&path, text).unwrap();
        let error = world.networks.list().unwrap_err().to_string();
        assert!(error.contains("web/network.json"), "{error}");
    }
    // One that was left behind while it was made is none.
    fs::remove_file(&path).unwrap();
    assert_eq!(world.networks.list().unwrap(), []);
}

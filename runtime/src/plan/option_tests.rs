//! What the options of a run become.

use protocol::{Limits, ResourceLimit};

use super::tests::{image, image_with, planned, spec};
use super::*;

/// The plan of a run with these options.
fn with(change: impl FnOnce(&mut Options)) -> Result<Plan, PlanError> {
    with_memory("512m", change)
}

fn with_memory(memory: &str, change: impl FnOnce(&mut Options)) -> Result<Plan, PlanError> {
    let mut spec = spec();
    spec.memory = memory.parse().unwrap();
    change(&mut spec.options);
    planned(&spec, &image())
}

#[test]
fn nothing_asked_confines_as_docker_does() {
    let container = with(|_| {}).unwrap().container;
    assert_eq!(container.limits, Limits::default());
    assert_eq!(container.process.capabilities, capabilities::DEFAULT);
    assert!(!container.process.no_new_privileges && !container.privileged && !container.init);
    assert!(container.process.seccomp.is_empty() && container.process.more_groups.is_empty());
    assert_eq!(container.process.oom_score_adjustment, None);
    assert!(container.tmpfs.is_empty() && container.sysctls.is_empty());
    assert_eq!(container.domain_name, "");
}

#[test]
fn a_limit_below_the_smallest_machine_is_the_cgroups() {
    let plan = with_memory("4m", |_| {}).unwrap();
    assert_eq!(plan.vm.memory_mib, 64);
    assert_eq!(plan.container.limits.memory_bytes, Some(4 << 20));
    let plan = with_memory("65m", |_| {}).unwrap();
    assert_eq!((plan.vm.memory_mib, plan.container.limits.memory_bytes), (65, None));
}

#[test]
fn limits_are_put_together() {
    let plan = with(|options| {
        options.pids_limit = Some(100);
        options.memory_reservation = Some("256m".parse().unwrap());
        options.cpu_shares = Some(512);
    })
    .unwrap();
    let wanted = Limits {
        cpu_quota_us: None,
        cpu_weight: Some(20),
        memory_bytes: None,
        memory_reserved_bytes: Some(256 << 20),
        pids: Some(100),
    };
    assert_eq!(plan.container.limits, wanted);
    for none in [0, -1] {
        let plan = with(|options| options.pids_limit = Some(none)).unwrap();
        assert_eq!(plan.container.limits.pids, None);
    }
}

#[test]
fn limits_that_contradict_each_other_are_errors() {
    let reservation = |options: &mut Options| {
        options.memory_reservation = Some("513m".parse().unwrap());
    };
    assert_eq!(with(reservation), Err(PlanError::Limits(LimitsError::Reservation)));
    let swap = |options: &mut Options| options.memory_swap = Some("511m".parse().unwrap());
    assert_eq!(with(swap), Err(PlanError::Limits(LimitsError::Swap)));
}

#[test]
fn what_a_machine_cannot_do_is_a_warning() {
    for (swap, warned) in [("512m", false), ("0", false), ("1g", true), ("-1", true)] {
        let plan = with(|options| options.memory_swap = Some(swap.parse().unwrap())).unwrap();
        let wanted =
            warned.then_some("there is no swap in a machine: --memory-swap is without effect");
        assert_eq!(plan.warnings.first().map(String::as_str), wanted, "{swap}");
    }
    let plan = with(|options| options.oom_kill_disable = true).unwrap();
    assert!(plan.warnings[0].contains("--oom-kill-disable is discarded"), "{:?}", plan.warnings);
}

#[test]
fn the_last_ulimit_of_a_kind_counts() {
    let asked = ["nofile=10:20", "core=0", "nofile=30"];
    let plan = with(|options| options.ulimits = asked.map(|text| text.parse().unwrap()).into());
    let limit = |resource, soft, hard| ResourceLimit { resource, soft, hard };
    assert_eq!(plan.unwrap().container.process.limits, [limit(7, 30, 30), limit(4, 0, 0)]);
}

#[test]
fn privileges_are_given_and_taken() {
    let plan = with(|options| {
        options.cap_add = vec!["net_admin".parse().unwrap()];
        options.cap_drop = vec!["all".parse().unwrap()];
        options.no_new_privileges = true;
        options.groups = vec!["audio".to_owned()];
        options.oom_score_adjustment = Some(-500);
    });
    let process = plan.unwrap().container.process;
    assert_eq!(process.capabilities.bits, 1 << 12);
    assert!(process.no_new_privileges);
    assert_eq!(process.more_groups, ["audio"]);
    assert_eq!(process.oom_score_adjustment, Some(-500));
    let plan = with(|options| {
        options.privileged = true;
        options.cap_drop = vec!["all".parse().unwrap()];
    });
    let container = plan.unwrap().container;
    assert!(container.privileged);
    assert_eq!(container.process.capabilities, Capabilities::ALL);
}

#[test]
fn a_profile_becomes_a_filter() {
    let profile = |text: &str| with(|options| options.seccomp_profile = Some(text.to_owned()));
    let plan = profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    assert!(!plan.container.process.seccomp.is_empty());
    assert!(matches!(profile("{"), Err(PlanError::Seccomp(SeccompError::Json(_)))));
}

#[test]
fn files_and_settings_reach_the_container() {
    let plan = with(|options| {
        options.init = true;
        options.shm_size = Some("1m".parse().unwrap());
        options.tmpfs = vec!["/run:size=1m".parse().unwrap()];
        options.sysctls = vec!["net.ipv4.ip_forward=1".parse().unwrap()];
        options.domain_name = Some("example.org".parse().unwrap());
        options.hosts = ["db:192.0.2.1", "db:2001:db8::1"].map(|text| text.parse().unwrap()).into();
    });
    let container = plan.unwrap().container;
    assert!(container.init);
    assert_eq!(container.shm_bytes, 1 << 20);
    assert_eq!(container.tmpfs[0].path, "/run");
    assert_eq!(container.sysctls[0].path, "net/ipv4/ip_forward");
    assert_eq!(container.domain_name, "example.org");
    assert!(container.etc.hosts.ends_with("192.0.2.1\tdb\n2001:db8::1\tdb\n"));
    let plan = with(|options| options.shm_size = Some("0".parse().unwrap())).unwrap();
    assert_eq!(plan.container.shm_bytes, SHM_BYTES);
}

#[test]
fn the_images_volumes_are_the_containers() {
    let config = image_with(|image| {
        image.volumes = ["/data", "/var/lib/x"].map(str::to_owned).into();
    });
    assert_eq!(planned(&spec(), &config).unwrap().container.volumes, ["/data", "/var/lib/x"]);
    let mut covered = spec();
    covered.options.tmpfs = vec!["/data/".parse().unwrap()];
    assert_eq!(planned(&covered, &config).unwrap().container.volumes, ["/var/lib/x"]);
    let config = image_with(|image| image.volumes = ["data".to_owned()].into());
    assert_eq!(planned(&spec(), &config), Err(PlanError::Volume("data".to_owned())));
}

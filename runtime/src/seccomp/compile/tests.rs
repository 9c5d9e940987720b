//! Filters are run as the kernel would, over calls with all kinds of arguments.

use protocol::Capabilities;

use super::super::profile::read;
use super::*;
use crate::capabilities;

const ALLOW: u32 = Action::ALLOW.0;
const EPERM: u32 = 0x0005_0001;
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// What the filter of a profile returns for a call.
fn verdict(filter: &[FilterInstruction], number: u32, arguments: [u64; 6]) -> u32 {
    run(filter, ARCHITECTURE, number, arguments)
}

fn run(filter: &[FilterInstruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, architecture, 0, 0];
    for argument in arguments {
        let (high, low) = halves(argument);
        data.extend([low, high]);
    }
    let (mut accumulator, mut next) = (0, 0);
    loop {
        let one = filter[next];
        next += 1;
        let truth = match one.code {
            opcode::LOAD => {
                accumulator = data[one.operand as usize / 4];
                continue;
            }
            opcode::AND => {
                accumulator &= one.operand;
                continue;
            }
            opcode::RETURN => return one.operand,
            opcode::IF_EQUAL => accumulator == one.operand,
            opcode::IF_GREATER => accumulator > one.operand,
            opcode::IF_GREATER_OR_EQUAL => accumulator >= one.operand,
            other => panic!("opcode {other:#x}"),
        };
        next += usize::from(if truth { one.if_true } else { one.if_false });
    }
}

fn filter(text: &str) -> Vec<FilterInstruction> {
    compile(&read(text, capabilities::DEFAULT).unwrap()).unwrap()
}

#[test]
fn calls_are_allowed_by_name_and_nothing_else() {
    let filter = filter(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "write", "open", "mseal", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"name": "getpid", "action": "SCMP_ACT_ALLOW", "args": null},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
    );
    for (number, wanted) in [
        (0, ALLOW),
        (1, ALLOW),
        (2, ALLOW),
        (3, EPERM),
        (38, EPERM),
        (39, ALLOW),
        (40, EPERM),
        (434, EPERM),
        (435, NO_SUCH_CALL),
        (436, EPERM),
        (462, ALLOW),
        (463, EPERM),
        (X32_BIT, NO_SUCH_CALL),
        (X32_BIT | 1, NO_SUCH_CALL),
    ] {
        assert_eq!(verdict(&filter, number, [0; 6]), wanted, "{number:#x}");
    }
    // AUDIT_ARCH_I386
    assert_eq!(run(&filter, 0x4000_0003, 0, [0; 6]), Action::KILL_PROCESS.0);
}

#[test]
fn arguments_are_compared_in_64_bits() {
    const LARGE: u64 = 5 << 32 | 7;
    let around = [0, 7, 5 << 32, LARGE - 1, LARGE, LARGE + 1, 6 << 32, 6 << 32 | 7, u64::MAX];
    type Fits = fn(u64) -> bool;
    let cases: [(&str, Fits); 6] = [
        ("EQ", |value| value == LARGE),
        ("NE", |value| value != LARGE),
        ("LT", |value| value < LARGE),
        ("LE", |value| value <= LARGE),
        ("GT", |value| value > LARGE),
        ("GE", |value| value >= LARGE),
    ];
    for (operator, fits) in cases {
        let filter = filter(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": 1, "value": {LARGE}, "op": "SCMP_CMP_{operator}"}}]}}]}}"#
        ));
        for value in around {
            let wanted = if fits(value) { ALLOW } else { EPERM };
            let arguments = [9, value, 9, 9, 9, 9];
            assert_eq!(verdict(&filter, 16, arguments), wanted, "{operator} {value:#x}");
        }
    }
}

#[test]
fn bits_are_compared_under_a_mask() {
    // As Docker's own profile does with clone: no new namespaces.
    let filter = filter(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    );
    let (new_mounts, new_users, beyond) = (0x0002_0000, 0x1000_0000, 1 << 40);
    for (flags, wanted) in [
        (17, ALLOW),
        (new_mounts | 17, EPERM),
        (new_users, EPERM),
        (beyond, ALLOW),
        (beyond | new_mounts, EPERM),
    ] {
        assert_eq!(verdict(&filter, 56, [flags, 0, 0, 0, 0, 0]), wanted, "{flags:#x}");
    }
}

#[test]
fn conditions_hold_together_unless_they_are_on_one_argument() {
    let rule = |first: u32, second: u32| {
        filter(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": {first}, "value": 1, "op": "SCMP_CMP_EQ"}},
                    {{"index": {second}, "value": 2, "op": "SCMP_CMP_EQ"}}]}}]}}"#
        ))
    };
    let both = rule(0, 1);
    for (arguments, wanted) in [([1, 2], ALLOW), ([1, 3], EPERM), ([3, 2], EPERM), ([2, 1], EPERM)]
    {
        let arguments = [arguments[0], arguments[1], 0, 0, 0, 0];
        assert_eq!(verdict(&both, 41, arguments), wanted, "{arguments:?}");
    }
    let either = rule(0, 0);
    for (argument, wanted) in [(1, ALLOW), (2, ALLOW), (3, EPERM)] {
        assert_eq!(verdict(&either, 41, [argument, 0, 0, 0, 0, 0]), wanted);
    }
}

#[test]
fn entries_count_for_their_capabilities_kernel_and_architecture() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.13"}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}}]}"#;
    let with = |capabilities| compile(&read(text, capabilities).unwrap()).unwrap();
    let (default, all) = (with(capabilities::DEFAULT), with(Capabilities::ALL));
    for (name, number, by_default, with_all) in [
        ("mount", 165, EPERM, ALLOW),
        ("clone3", 435, NO_SUCH_CALL, EPERM),
        ("ptrace", 101, ALLOW, ALLOW),
        ("bpf", 321, EPERM, EPERM),
        ("arch_prctl", 158, ALLOW, ALLOW),
        ("reboot", 169, EPERM, EPERM),
    ] {
        assert_eq!(verdict(&default, number, [0; 6]), by_default, "{name}");
        assert_eq!(verdict(&all, number, [0; 6]), with_all, "{name}");
    }
}

#[test]
fn a_rule_without_conditions_is_the_last_word() {
    let filter = filter(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_KILL"},
            {"names": ["kill"], "action": "SCMP_ACT_LOG", "args": [
                {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    assert_eq!(verdict(&filter, 62, [1, 0, 0, 0, 0, 0]), 0x7ffc_0000);
    assert_eq!(verdict(&filter, 62, [1, 9, 0, 0, 0, 0]), 0);
    assert_eq!(verdict(&filter, 61, [1, 9, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn what_is_no_profile_is_said() {
    let entry =
        |entry: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{entry}]}}"#);
    let argument = |argument: &str| {
        entry(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{argument}]}}"#))
    };
    let cases = [
        ("no json".to_owned(), "decoding seccomp profile failed"),
        ("{}".to_owned(), "decoding seccomp profile failed: missing field `defaultAction`"),
        (r#"{"defaultAction": "SCMP_ACT_PANIC"}"#.to_owned(), "invalid action 'SCMP_ACT_PANIC'"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#), "invalid action"),
        (argument(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#), "invalid argument index 6"),
        (argument(r#"{"index": 0, "value": 0, "op": "LIKE"}"#), "invalid operator 'LIKE'"),
    ];
    for (text, wanted) in cases {
        let error = read(&text, capabilities::DEFAULT).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_profile_that_no_kernel_takes_is_refused() {
    let condition = r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}"#;
    let many = vec![condition; 60].join(",");
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{many}]}}]}}"#
    );
    let rules = read(&text, capabilities::DEFAULT).unwrap();
    assert_eq!(compile(&rules), Err(SeccompError::TooLong));
}

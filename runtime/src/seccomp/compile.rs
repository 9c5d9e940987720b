//! Turns rules into instructions of classic BPF, which the kernel runs over `struct seccomp_data`
//! at every system call (Documentation/userspace-api/seccomp_filter.rst).

use protocol::FilterInstruction;

use super::SeccompError;
use super::profile::{Action, Comparison, Condition, Rule, Rules};

/// The most instructions a filter may have (`BPF_MAXINSNS`, linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;
/// `AUDIT_ARCH_X86_64`, linux/audit.h.
const ARCHITECTURE: u32 = 0xc000_003e;
/// The bit that marks calls of the x32 ABI, which the guest's kernel does not have.
const X32_BIT: u32 = 0x4000_0000;
/// What a call that does not exist returns.
const ENOSYS: u16 = 38;

/// Where things are in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

/// The instructions that are needed (linux/bpf_common.h).
mod opcode {
    /// `BPF_LD | BPF_W | BPF_ABS`: load a word of the data.
    pub(super) const LOAD: u16 = 0x20;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    pub(super) const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    pub(super) const IF_EQUAL: u16 = 0x15;
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    pub(super) const IF_GREATER: u16 = 0x25;
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    pub(super) const IF_GREATER_OR_EQUAL: u16 = 0x35;
    /// `BPF_RET | BPF_K`.
    pub(super) const RETURN: u16 = 0x06;
}

/// Calls with numbers in a row that are treated alike.
struct Range<'a> {
    first: u32,
    last: u32,
    rules: &'a [Rule],
}

/// Compiles rules. Ranges of calls are passed by until the one with the call's number comes: each
/// costs one comparison.
pub(super) fn compile(rules: &Rules) -> Result<Vec<FilterInstruction>, SeccompError> {
    let mut program = vec![
        plain(opcode::LOAD, ARCHITECTURE_OFFSET),
        branch(opcode::IF_EQUAL, ARCHITECTURE, 1, 0),
        ret(Action::KILL_PROCESS),
        plain(opcode::LOAD, NUMBER_OFFSET),
        branch(opcode::IF_GREATER_OR_EQUAL, X32_BIT, 0, 1),
        ret(Action::errno(ENOSYS)),
    ];
    for range in ranges(rules) {
        let mut block = Vec::new();
        for rule in range.rules {
            block.extend(compile_rule(rule)?);
        }
        // Between this range and the one before, or with arguments that fit no rule.
        block.push(ret(rules.default));
        let end = distance(block.len() - 1)?;
        program.push(branch(opcode::IF_GREATER, range.last, distance(block.len() + 1)?, 0));
        program.push(branch(opcode::IF_GREATER_OR_EQUAL, range.first, 0, end));
        program.extend(block);
    }
    program.push(ret(rules.default));
    if program.len() > MAX_INSTRUCTIONS { Err(SeccompError::TooLong) } else { Ok(program) }
}

fn ranges(rules: &Rules) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (number, rules) in &rules.calls {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == *number && range.rules == rules => {
                range.last = *number;
            }
            _ => ranges.push(Range { first: *number, last: *number, rules }),
        }
    }
    ranges
}

/// A rule from its end: each condition knows how far that is.
fn compile_rule(rule: &Rule) -> Result<Vec<FilterInstruction>, SeccompError> {
    let mut code = vec![ret(rule.action)];
    for condition in rule.conditions.iter().rev() {
        let mut whole = compile_condition(condition, code.len())?;
        whole.extend(code);
        code = whole;
    }
    Ok(code)
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    /// To the next instruction.
    Next,
    /// Behind the condition: it holds.
    Holds,
    /// Behind the rule: it does not.
    Fails,
}

/// A 64-bit comparison in 32-bit steps, the high half first. `rest` is how many instructions of the
/// rule come behind it.
fn compile_condition(
    condition: &Condition,
    rest: usize,
) -> Result<Vec<FilterInstruction>, SeccompError> {
    use opcode::{AND, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, LOAD};
    let low_offset = ARGUMENTS_OFFSET + 8 * condition.argument;
    let load = |offset| (LOAD, offset, To::Next, To::Next);
    let (high, low) = (load(low_offset + 4), load(low_offset));
    let steps = match condition.comparison {
        Comparison::Equal(value) => {
            let (h, l) = halves(value);
            vec![high, (IF_EQUAL, h, To::Next, To::Fails), low, (IF_EQUAL, l, To::Holds, To::Fails)]
        }
        Comparison::NotEqual(value) => {
            let (h, l) = halves(value);
            vec![high, (IF_EQUAL, h, To::Next, To::Holds), low, (IF_EQUAL, l, To::Fails, To::Holds)]
        }
        Comparison::Masked(mask, value) => {
            let ((mh, ml), (h, l)) = (halves(mask), halves(value));
            let (and_high, and_low) =
                ((AND, mh, To::Next, To::Next), (AND, ml, To::Next, To::Next));
            let high_equal = (IF_EQUAL, h, To::Next, To::Fails);
            vec![high, and_high, high_equal, low, and_low, (IF_EQUAL, l, To::Holds, To::Fails)]
        }
        Comparison::Greater(value) => greater(high, low, value, IF_GREATER, To::Holds, To::Fails),
        Comparison::GreaterOrEqual(value) => {
            greater(high, low, value, IF_GREATER_OR_EQUAL, To::Holds, To::Fails)
        }
        Comparison::Less(value) => {
            greater(high, low, value, IF_GREATER_OR_EQUAL, To::Fails, To::Holds)
        }
        Comparison::LessOrEqual(value) => {
            greater(high, low, value, IF_GREATER, To::Fails, To::Holds)
        }
    };
    let count = steps.len();
    let mut code = Vec::with_capacity(count);
    for (place, (code_, operand, if_true, if_false)) in steps.into_iter().enumerate() {
        let behind = count - place - 1;
        let jump = |to| match to {
            To::Next => Ok(0),
            To::Holds => distance(behind),
            To::Fails => distance(behind + rest),
        };
        code.push(branch(code_, operand, jump(if_true)?, jump(if_false)?));
    }
    Ok(code)
}

/// An instruction with its operand, and where it leads when it is true and when it is not.
type Step = (u16, u32, To, To);

/// Whether an argument is greater than a value, by the high halves, or by `last` on the low ones.
fn greater(high: Step, low: Step, value: u64, last: u16, holds: To, fails: To) -> Vec<Step> {
    let (h, l) = halves(value);
    vec![
        high,
        (opcode::IF_GREATER, h, holds, To::Next),
        (opcode::IF_EQUAL, h, To::Next, fails),
        low,
        (last, l, holds, fails),
    ]
}

fn halves(value: u64) -> (u32, u32) {
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).expect("32 bits");
    (half(value >> 32), half(value))
}

fn distance(instructions: usize) -> Result<u8, SeccompError> {
    u8::try_from(instructions).map_err(|_| SeccompError::TooLong)
}

fn plain(code: u16, operand: u32) -> FilterInstruction {
    branch(code, operand, 0, 0)
}

fn branch(code: u16, operand: u32, if_true: u8, if_false: u8) -> FilterInstruction {
    FilterInstruction { code, if_true, if_false, operand }
}

fn ret(action: Action) -> FilterInstruction {
    plain(opcode::RETURN, action.0)
}

#[cfg(test)]
mod tests;

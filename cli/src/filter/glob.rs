//! Patterns for names, as Go's `path.Match` has them: `*` and `?` stop at a slash.

/// Whether the whole text fits the pattern. A malformed pattern fits nothing.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut pos) = (0, 0);
    // Where to go on when what follows the last star does not fit: one more character is the star's.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if at == pattern.len() && pos == text.len() {
            return true;
        }
        if pattern.get(at) == Some(&'*') {
            retry = Some((at, pos));
            at += 1;
            continue;
        }
        if let Some(c) = text.get(pos)
            && let Some(length) = one(&pattern[at..], *c)
        {
            (at, pos) = (at + length, pos + 1);
            continue;
        }
        match retry {
            Some((star, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                retry = Some((star, from + 1));
                (at, pos) = (star + 1, from + 1);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern one character fits, if it does.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (c != '/').then_some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', rest @ ..] => {
            let (negated, rest) = match rest {
                ['^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let end = rest.iter().position(|c| *c == ']').filter(|end| *end > 0)?;
            let mut class = &rest[..end];
            let mut found = false;
            while let [low, more @ ..] = class {
                (found, class) = match more {
                    ['-', high, after @ ..] => (found || (*low..=*high).contains(&c), after),
                    after => (found || *low == c, after),
                };
            }
            (found != negated).then_some(end + 2 + usize::from(negated))
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_gos() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a?b", "a/b", false),
            ("[", "a", false),
            ("[]", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!fits(&"*a".repeat(1000), &"a".repeat(999)));
        assert!(!fits(&("*a".repeat(50) + "b"), &"a".repeat(20_000)));
    }
}

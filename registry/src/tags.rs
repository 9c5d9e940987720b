//! Lists the tags of a repository, page by page: distribution-spec, "Listing Tags".

use std::collections::BTreeSet;

use images::{Limits, Reference};
use serde::Deserialize;
use ureq::http::Method;

use crate::error::Error;
use crate::repository::Repository;
use crate::url::Url;

/// More tags are nothing that a person wants all of.
const TAGS_LIMIT: usize = 10_000;
/// What a registry is asked to put into one page; it may put less.
const PAGE: usize = 1000;
/// An honest registry fills its pages.
const PAGES_LIMIT: usize = 1000;

#[derive(Deserialize)]
struct Page {
    /// Some registries have `null` for a repository whose tags are gone.
    tags: Option<Vec<String>>,
}

/// The names of all that a repository has a tag for, in the registry's order.
pub(crate) fn list(
    repository: &Repository<'_>,
    of: &Reference,
    limits: &Limits,
) -> Result<Vec<Reference>, Error> {
    let what = format!("tags of {}", of.repository());
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    let mut next = Some(repository.url(&format!("tags/list?n={PAGE}")));
    for _ in 0..PAGES_LIMIT {
        let Some(url) = next else { return Ok(found) };
        let mut call = repository.call(Method::GET, "", &what);
        call.url = url;
        let answer = repository.send(&call)?.success(&what)?;
        next = match answer.header("link").and_then(next_page) {
            Some(target) => Some(
                follow(&call.url, target)
                    .ok_or_else(|| answer.bad(&what, "a next page that is somewhere else"))?,
            ),
            None => None,
        };
        let bad = |problem: &str| repository.bad(&what, problem);
        let page: Page = serde_json::from_slice(&answer.bytes(limits.max_document_bytes, &what)?)
            .map_err(|_| bad("no JSON list"))?;
        for tag in page.tags.unwrap_or_default() {
            let name = format!("{}/{}:{tag}", of.registry(), of.repository());
            let named: Option<Reference> = name.parse().ok();
            let named = named.filter(|named| named.tag() == Some(&tag) && named.digest().is_none());
            let shown = crate::words::clean(&tag);
            let named = named.ok_or_else(|| bad(&format!("{shown:?}, which is no tag,")))?;
            if seen.insert(tag) {
                found.push(named);
            }
        }
        if found.len() > TAGS_LIMIT {
            return Err(bad(&format!("more than {TAGS_LIMIT} tags")));
        }
    }
    Err(repository.bad(&what, format!("more than {PAGES_LIMIT} pages")))
}

/// The target of a link to the next page, absolute or not. RFC 8288, section 3, as far as registries
/// write it: `<target>; rel="next"`.
pub(crate) fn next_page(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((target, behind)) = rest.split_once('<')?.1.split_once('>') {
        let end = behind.find('<').unwrap_or(behind.len());
        let (parameters, further) = behind.split_at(end);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if is_next {
            return Some(target);
        }
        rest = further;
    }
    None
}

/// Where a link leads. Only the registry itself knows what it has, and gets to see who asks.
pub(crate) fn follow(here: &Url, target: &str) -> Option<Url> {
    here.join(target).filter(|url| url.origin() == here.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        for (header, wanted) in [
            ("</v2/x/tags/list?n=2&last=b>; rel=\"next\"", Some("/v2/x/tags/list?n=2&last=b")),
            ("<https://a/b>;rel=next", Some("https://a/b")),
            ("<a>; rel=\"prev\", <b,c>; title=\"x\"; REL=Next", Some("b,c")),
            ("<a>; rel=\"prev\"", None),
            ("<a>", None),
            ("a; rel=next", None),
            ("<a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(header), wanted, "{header}");
        }
    }
}

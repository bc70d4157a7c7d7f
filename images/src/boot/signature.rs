//! Signatures of FIT configurations: the bytes that are signed, and verification as U-Boot does it.
//!
//! U-Boot signs regions of the tree's structure block: the root node, the configuration, every image
//! that the configuration names with its hash nodes, but for the data itself, which those hashes
//! cover; then the strings block. Which nodes those are is found from the configuration alone.
//! Source: `doc/usage/fit/signature.rst`, `fit_config_get_hash_list` and `fdt_find_regions` of
//! U-Boot 2023.01 with the fix of CVE-2026-46728.

use super::key::{BootKey, KEY_BYTES};
use crate::boot_error::BootError;
use crate::sha256;
use std::collections::BTreeSet;
use std::ops::Range;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Deepest nesting that U-Boot follows.
const MAX_DEPTH: usize = 32;
const WHAT: &str = "the FIT";
/// Properties whose contents the hashes cover, or that only say where those are.
const NOT_SIGNED: [&str; 4] = ["data", "data-size", "data-position", "data-offset"];
/// Properties of a configuration that name no image.
const NO_IMAGES: [&str; 3] = ["description", "compatible", "default"];

/// One tag of the structure block.
#[derive(Debug, Clone)]
struct Tag<'a> {
    /// Range of the tag in the FIT.
    at: Range<usize>,
    kind: Kind<'a>,
}

#[derive(Debug, Clone)]
enum Kind<'a> {
    Begin(&'a str),
    End,
    Property { name: &'a str, value: Range<usize> },
    Nop,
    Last,
}

/// A FIT cut into its tags.
#[derive(Debug)]
struct Tags<'a> {
    tags: Vec<Tag<'a>>,
    strings: Range<usize>,
}

/// Returns the length that a FIT's header states, when all of it is there.
#[must_use]
pub fn fit_length(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(word(bytes, 4)?).ok()?;
    (word(bytes, 0)? == MAGIC && length <= bytes.len()).then_some(length)
}

/// Returns the digest of the FIT at the start of `bytes`, of as many of them as its header states: what the boot loader
/// extends PCR 8 with. Both slots have the same FIT, and so has whoever publishes it. `None` where there is none.
#[must_use]
pub fn boot_digest(bytes: &[u8]) -> Option<[u8; 32]> {
    let fit = bytes.get(..fit_length(bytes)?)?;
    Some(sha256(&[fit]))
}

/// Returns the bytes that a signature of configuration `name` is over.
///
/// # Errors
/// The bytes are no FIT of ours: not whole, nodes named twice or with `@`, no such configuration.
pub fn bytes_to_sign(fit: &[u8], name: &str) -> Result<Vec<u8>, BootError> {
    let tags = Tags::read(fit)?;
    let signed = tags.signed_nodes(fit, name)?;
    tags.message(fit, name, &signed)
}

/// The bytes that a signature of configuration `name` would be over if it covered `nodes`: what a
/// verifier takes that believes a list which is not itself signed.
///
/// # Errors
/// As [`bytes_to_sign`].
pub fn bytes_of_nodes(fit: &[u8], name: &str, nodes: &[&str]) -> Result<Vec<u8>, BootError> {
    let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    Tags::read(fit)?.message(fit, name, &nodes)
}

/// Puts a signature of configuration `name` in its place.
///
/// # Errors
/// As [`bytes_to_sign`], or there is no place for it.
pub fn attach(fit: &mut [u8], name: &str, signature: &[u8; KEY_BYTES]) -> Result<(), BootError> {
    let path = signature_path(name);
    let place = Tags::read(fit)?.property(&path, "value").ok_or_else(|| missing(&path, "value"))?;
    let target = fit
        .get_mut(place)
        .filter(|target| target.len() == KEY_BYTES)
        .ok_or_else(|| missing(&path, "value"))?;
    target.copy_from_slice(signature);
    Ok(())
}

/// The signature of configuration `name`; all zeros where nobody has signed yet.
///
/// # Errors
/// As [`bytes_to_sign`], or there is none.
pub fn signature(fit: &[u8], name: &str) -> Result<[u8; KEY_BYTES], BootError> {
    let path = signature_path(name);
    Tags::read(fit)?
        .property(&path, "value")
        .and_then(|place| fit.get(place)?.try_into().ok())
        .ok_or_else(|| missing(&path, "value"))
}

/// The first of `keys` that has signed configuration `name`.
///
/// # Errors
/// As [`bytes_to_sign`], or none has.
pub fn verify<'a>(
    fit: &[u8],
    name: &str,
    keys: &'a [(String, BootKey)],
) -> Result<&'a str, BootError> {
    let signature = signature(fit, name)?;
    if signature == [0; KEY_BYTES] {
        return Err(BootError::NotSigned(name.to_owned()));
    }
    let message = bytes_to_sign(fit, name)?;
    keys.iter()
        .find(|(_, key)| key.has_signed(&message, &signature))
        .map(|(key_name, _)| key_name.as_str())
        .ok_or_else(|| BootError::WronglySigned(name.to_owned()))
}

fn signature_path(configuration: &str) -> String {
    format!("/configurations/{configuration}/signature-1")
}

fn missing(path: &str, name: &str) -> BootError {
    BootError::Missing { what: WHAT, path: format!("{path}/{name}") }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*word))
}

/// The text up to the first NUL at `at`, which must lie before `end`.
fn text(bytes: &[u8], at: usize, end: usize) -> Option<&str> {
    let rest = bytes.get(at..end)?;
    let length = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

impl<'a> Tags<'a> {
    fn read(fit: &'a [u8]) -> Result<Self, BootError> {
        Self::cut(fit).ok_or_else(|| BootError::Malformed {
            what: WHAT,
            reason: "its structure is damaged".to_owned(),
        })
    }

    fn cut(fit: &'a [u8]) -> Option<Self> {
        let fit = fit.get(..fit_length(fit)?)?;
        let header = |index: usize| word(fit, index).and_then(|word| usize::try_from(word).ok());
        let range = |at: usize, length: usize| {
            let end = at.checked_add(length).filter(|end| *end <= fit.len())?;
            Some(at..end)
        };
        let structure = range(header(8)?, header(36)?)?;
        let strings = range(header(12)?, header(32)?)?;
        let mut tags = Vec::new();
        let mut at = structure.start;
        loop {
            let start = at;
            let kind = word(fit, at).filter(|_| at < structure.end)?;
            at = at.checked_add(4)?;
            let kind = match kind {
                BEGIN_NODE => {
                    let name = text(fit, at, structure.end)?;
                    at = at.checked_add(name.len())?.checked_add(1)?;
                    Kind::Begin(name)
                }
                END_NODE => Kind::End,
                PROPERTY => {
                    let length = usize::try_from(word(fit, at)?).ok()?;
                    let name = usize::try_from(word(fit, at.checked_add(4)?)?).ok()?;
                    let name = text(fit, strings.start.checked_add(name)?, strings.end)?;
                    at = at.checked_add(8)?;
                    let value = range(at, length)?;
                    at = value.end;
                    Kind::Property { name, value }
                }
                NOP => Kind::Nop,
                END => Kind::Last,
                _ => return None,
            };
            at = at.checked_next_multiple_of(4).filter(|at| *at <= structure.end)?;
            let last = matches!(kind, Kind::Last);
            tags.push(Tag { at: start..at, kind });
            if last {
                break;
            }
        }
        (at == structure.end).then_some(())?;
        let tags = Self { tags, strings };
        tags.is_regular().then_some(tags)
    }

    /// One root without a name, every node closed, no name twice below one parent, none with `@`:
    /// U-Boot would take the first of two, and `a@b` for `a`.
    fn is_regular(&self) -> bool {
        let mut names: Vec<BTreeSet<&str>> = Vec::new();
        let mut has_root = false;
        for tag in &self.tags {
            match tag.kind {
                Kind::Begin(name) => {
                    let fresh = match names.last_mut() {
                        None => name.is_empty() && !std::mem::replace(&mut has_root, true),
                        Some(names) => {
                            !name.is_empty() && !name.contains(['@', '/']) && names.insert(name)
                        }
                    };
                    names.push(BTreeSet::new());
                    if !fresh || names.len() >= MAX_DEPTH {
                        return false;
                    }
                }
                Kind::End => {
                    if names.pop().is_none() {
                        return false;
                    }
                }
                Kind::Property { .. } if names.is_empty() => return false,
                Kind::Property { .. } | Kind::Nop => {}
                Kind::Last => return names.is_empty() && has_root,
            }
        }
        false
    }

    /// Every tag with the path of the node that it belongs to.
    fn with_paths(&self) -> impl Iterator<Item = (String, &Tag<'a>)> {
        let mut path: Vec<&str> = Vec::new();
        self.tags.iter().map(move |tag| {
            if let Kind::Begin(name) = tag.kind {
                path.push(name);
            }
            let joined = path.join("/");
            if matches!(tag.kind, Kind::End) {
                path.pop();
            }
            (if joined.is_empty() { "/".to_owned() } else { joined }, tag)
        })
    }

    fn property(&self, path: &str, wanted: &str) -> Option<Range<usize>> {
        self.with_paths().find_map(|(of, tag)| match &tag.kind {
            Kind::Property { name, value } if of == path && *name == wanted => Some(value.clone()),
            _ => None,
        })
    }

    /// The regions of `signed`, then as much of the strings as the signature names.
    fn message(
        &self,
        fit: &[u8],
        name: &str,
        signed: &BTreeSet<String>,
    ) -> Result<Vec<u8>, BootError> {
        let path = signature_path(name);
        let end = self
            .property(&path, "hashed-strings")
            .and_then(|at| word(fit, at.start.checked_add(4)?))
            .and_then(|length| self.strings.start.checked_add(usize::try_from(length).ok()?))
            .filter(|end| *end <= self.strings.end)
            .ok_or_else(|| missing(&path, "hashed-strings"))?;
        let mut message = Vec::new();
        for range in self.regions(signed) {
            message.extend_from_slice(fit.get(range).unwrap_or_default());
        }
        message.extend_from_slice(fit.get(self.strings.start..end).unwrap_or_default());
        Ok(message)
    }

    /// The nodes that a signature of the configuration covers.
    fn signed_nodes(&self, fit: &[u8], name: &str) -> Result<BTreeSet<String>, BootError> {
        let configuration = format!("/configurations/{name}");
        let nodes: BTreeSet<String> = self
            .with_paths()
            .filter(|(_, tag)| matches!(tag.kind, Kind::Begin(_)))
            .map(|(path, _)| path)
            .collect();
        if !nodes.contains(&configuration) {
            return Err(BootError::Missing { what: WHAT, path: configuration });
        }
        let mut signed = BTreeSet::from(["/".to_owned(), configuration.clone()]);
        for (path, tag) in self.with_paths() {
            let Kind::Property { name, value } = &tag.kind else { continue };
            if path != configuration || NO_IMAGES.contains(name) {
                continue;
            }
            let value = fit.get(value.clone()).unwrap_or_default();
            for image in value.split(|byte| *byte == 0).filter(|image| !image.is_empty()) {
                let image = format!("/images/{}", String::from_utf8_lossy(image));
                if !nodes.contains(&image) {
                    continue;
                }
                let prefix = format!("{image}/hash");
                let is_hash = |node: &&String| {
                    node.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'))
                };
                let hashes: Vec<String> = nodes.iter().filter(is_hash).cloned().collect();
                if hashes.is_empty() {
                    return Err(missing(&image, "hash-1"));
                }
                signed.extend(hashes);
                signed.insert(image);
            }
        }
        if signed.len() == 2 {
            return Err(missing(&configuration, "kernel"));
        }
        Ok(signed)
    }

    /// The signed parts of the structure block, in order.
    fn regions(&self, signed: &BTreeSet<String>) -> Vec<Range<usize>> {
        // How much of the node around counts: all, only that it is there with its children's
        // beginnings and ends, or nothing.
        let mut want = 0u8;
        let mut around = Vec::new();
        let mut regions: Vec<Range<usize>> = Vec::new();
        for (path, tag) in self.with_paths() {
            let include = match &tag.kind {
                Kind::Property { name, .. } => want >= 2 && !NOT_SIGNED.contains(name),
                Kind::Nop => want >= 2,
                Kind::Begin(_) => {
                    around.push(want);
                    want = if signed.contains(&path) { 2 } else { want.saturating_sub(1) };
                    want > 0
                }
                Kind::End => {
                    let include = want > 0;
                    want = around.pop().unwrap_or(0);
                    include
                }
                Kind::Last => true,
            };
            if include {
                match regions.last_mut() {
                    Some(last) if last.end == tag.at.start => last.end = tag.at.end,
                    _ => regions.push(tag.at.clone()),
                }
            }
        }
        regions
    }
}

//! The jobserver of GNU make, from which this program takes a token for every job on a processor, so that several
//! runs of it side by side have no more guests than processors.
//! Source: GNU make manual, "POSIX Jobserver Interaction".

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Where tokens come from.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// Nobody shares this machine's processors out: there is always one more.
    Unlimited,
    /// The ends of the jobserver's pipe, opened anew, so that reading blocks nobody else.
    Jobserver { reader: File, writer: File },
}

/// The right to run one job; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Token {
    back: Option<(File, u8)>,
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some((writer, byte)) = &mut self.back {
            // Whoever made the jobserver is gone: nobody waits for it.
            let _ = writer.write_all(&[*byte]);
        }
    }
}

impl Tokens {
    /// The jobserver that `MAKEFLAGS` names, where one does and it is still there.
    pub(crate) fn from_flags(flags: Option<&str>) -> Self {
        let open = |(read, write): (PathBuf, PathBuf)| {
            let mut options = OpenOptions::new();
            options.custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).ok()?);
            let reader = options.clone().read(true).open(read).ok()?;
            let writer = options.write(true).open(write).ok()?;
            Some(Self::Jobserver { reader, writer })
        };
        flags.and_then(ends).and_then(open).unwrap_or(Self::Unlimited)
    }

    /// A token for one more job, where there is one now.
    pub(crate) fn try_take(&mut self) -> Option<Token> {
        match self {
            Self::Unlimited => Some(Token { back: None }),
            Self::Jobserver { reader, writer } => {
                let mut byte = [0];
                let writer = writer.try_clone().ok()?;
                if reader.read(&mut byte).ok()? == 0 {
                    return None;
                }
                let [byte] = byte;
                Some(Token { back: Some((writer, byte)) })
            }
        }
    }
}

/// The paths of the pipe's ends, of which the later option counts: a named pipe, or two descriptors that were
/// inherited.
fn ends(flags: &str) -> Option<(PathBuf, PathBuf)> {
    let option = |word: &str| {
        let value = word.strip_prefix("--jobserver-auth=");
        value.or_else(|| word.strip_prefix("--jobserver-fds=")).map(str::to_owned)
    };
    let value = flags.split_whitespace().filter_map(option).next_back()?;
    if let Some(path) = value.strip_prefix("fifo:") {
        return Some((path.into(), path.into()));
    }
    let (read, write) = value.split_once(',')?;
    let path = |number: &str| {
        number.parse::<u32>().ok().map(|number| PathBuf::from(format!("/proc/self/fd/{number}")))
    };
    Some((path(read)?, path(write)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_later_option_names_the_pipe() {
        let path = |path: &str| PathBuf::from(path);
        let fds = |r: u8, w: u8| {
            (path(&format!("/proc/self/fd/{r}")), path(&format!("/proc/self/fd/{w}")))
        };
        assert_eq!(ends(" -j --jobserver-fds=5,6 --jobserver-auth=3,4"), Some(fds(3, 4)));
        assert_eq!(ends("--jobserver-auth=fifo:/t/x"), Some((path("/t/x"), path("/t/x"))));
        for none in ["", "-j4", "--jobserver-auth=", "--jobserver-auth=-2,-2"] {
            assert_eq!(ends(none), None, "{none}");
        }
    }

    #[test]
    fn a_token_is_taken_once_and_given_back() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"+").unwrap();
        let flags = format!("--jobserver-auth={},{}", reader.as_raw_fd(), writer.as_raw_fd());
        let mut tokens = Tokens::from_flags(Some(&flags));
        assert!(matches!(tokens, Tokens::Jobserver { .. }));
        let token = tokens.try_take().unwrap();
        assert!(tokens.try_take().is_none(), "there was one");
        drop(token);
        assert!(tokens.try_take().is_some(), "it was given back");
    }

    #[test]
    fn without_a_jobserver_there_is_always_one_more() {
        let mut tokens = Tokens::from_flags(None);
        let held: Vec<_> = (0..3).map(|_| tokens.try_take()).collect();
        assert!(held.iter().all(Option::is_some));
    }
}

//! Colours: on a terminal only, and not where `NO_COLOR` (<https://no-color.org>) asks for none.

use std::{
    env,
    io::{IsTerminal, stderr},
    sync::OnceLock,
};

/// Whether what is written for a person has colours.
pub fn is_on() -> bool {
    static IS_ON: OnceLock<bool> = OnceLock::new();
    *IS_ON.get_or_init(|| {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        stderr().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
    })
}

/// In bold.
pub fn bold(text: &str) -> String {
    painted(text, "1")
}

/// In red.
pub fn red(text: &str) -> String {
    painted(text, "31")
}

fn painted(text: &str, code: &str) -> String {
    if is_on() { format!("\x1b[{code}m{text}\x1b[m") } else { text.to_owned() }
}

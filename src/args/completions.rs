//! What shells have to know to complete a command's arguments.

use std::fmt::Write as _;

use super::{Command, Flag};

/// Which shells there are, for whoever names another.
pub(super) const SHELLS: &str = "--completions takes the name of a shell: bash, zsh or fish";

/// The script for a shell.
///
/// # Errors
/// When it is none of those that are known.
pub(super) fn of(command: &Command, shell: &str) -> Result<String, String> {
    match shell {
        "bash" => Ok(bash(command)),
        "zsh" => Ok(zsh(command)),
        "fish" => Ok(fish(command)),
        _ => Err(SHELLS.to_owned()),
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Files,
    Folders,
    /// Paths that the swarm knows.
    Swarm,
    /// Nobody can know.
    Other,
}

/// By what a value or an operand is called.
fn kind(called: &str) -> Kind {
    match called {
        "FILE" | "file" => Kind::Files,
        "folder" => Kind::Folders,
        "path, id or pattern" => Kind::Swarm,
        _ => Kind::Other,
    }
}

/// All flags with each of their names: those of the table, and those that every command has.
fn flags(command: &Command) -> Vec<(Vec<&'static str>, &'static str, &'static str)> {
    let named = |flag: &Flag| (vec![flag.name], flag.value, flag.help);
    let table = command.flags.iter().map(named);
    let call = command.call_flags.iter().map(|(short, flag)| (vec![*short, flag.name], flag.value, flag.help));
    let own = command.own_flags().iter().map(|(left, help)| {
        let (name, value) = left.split_once(' ').unwrap_or((left, ""));
        (vec![name], value, *help)
    });
    table.chain(call).chain(own).collect()
}

fn bash(command: &Command) -> String {
    let name = command.name;
    let mut text = format!("# {name}: completion for bash, to be sourced\n_{name}() {{\n");
    text.push_str(
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= flags=\n    COMPREPLY=()\n",
    );
    let verbs: Vec<_> = command.verbs.iter().map(|verb| verb.word()).collect();
    if !verbs.is_empty() {
        let _ = writeln!(text, "    case ${{COMP_WORDS[1]}} in {}) verb=${{COMP_WORDS[1]}} ;; esac", verbs.join("|"));
    }
    text.push_str("    case $verb in\n");
    for form in command.verbs.iter().copied().chain([command]) {
        let names: Vec<_> = flags(form).into_iter().flat_map(|(names, ..)| names).collect();
        let word = if form.is_verb() { form.word() } else { "*" };
        let _ = writeln!(text, "        {word}) flags='{}' ;;", names.join(" "));
    }
    text.push_str("    esac\n    case $prev in\n");
    let all: Vec<_> = command.verbs.iter().copied().chain([command]).flat_map(flags).collect();
    let with = |wanted: Kind| {
        let mut names: Vec<_> = (all.iter())
            .filter(|(_, value, _)| !value.is_empty() && *value != "SHELL" && kind(value) == wanted)
            .flat_map(|(names, ..)| names.iter().copied())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.join("|")
    };
    let _ = writeln!(
        text,
        "        {}) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;",
        with(Kind::Files)
    );
    let _ = writeln!(
        text,
        "        --completions) mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- \"$cur\"); return ;;"
    );
    let _ = writeln!(text, "        {}) return ;;\n    esac", with(Kind::Other));
    text.push_str(
        "    if [[ $cur == -* ]]; then mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\"); return; fi\n",
    );
    if !verbs.is_empty() {
        let _ = writeln!(
            text,
            "    if ((COMP_CWORD == 1)); then mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\"); return; fi",
            verbs.join(" ")
        );
    }
    for verb in command.verbs {
        let what = verb.operands.first().map_or(Kind::Other, |(operand, _)| kind(operand));
        let from = match what {
            // A tracker that is away keeps nobody waiting.
            Kind::Swarm => format!("timeout 2 {name} search -q -- \"$cur*\" 2>/dev/null | cut -f4"),
            Kind::Files => "compgen -f -- \"$cur\"".to_owned(),
            _ => ":".to_owned(),
        };
        let _ = writeln!(
            text,
            "    if [[ $verb == {} ]]; then compopt -o filenames; mapfile -t COMPREPLY < <({from}); return; fi",
            verb.word()
        );
    }
    if command.operands.iter().any(|(operand, _)| kind(operand) == Kind::Folders) {
        text.push_str("    compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n");
    }
    let _ = writeln!(text, "}}\ncomplete -F _{name} {name}");
    text
}

/// In single quotes, as zsh and fish want it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "'\\''"))
}

fn zsh(command: &Command) -> String {
    let name = command.name;
    let mut text = format!("#compdef {name}\n_{name}() {{\n");
    let arguments = |text: &mut String, form: &Command, indent: &str| {
        let _ = write!(text, "{indent}_arguments -s");
        for (names, value, help) in flags(form) {
            let help = help.replace('[', "(").replace(']', ")").replace(':', "\\:");
            let value = match (value, kind(value)) {
                ("", _) => String::new(),
                ("SHELL", _) => ":shell:(bash zsh fish)".to_owned(),
                (_, Kind::Files) => ":file:_files".to_owned(),
                (value, _) => format!(":{}: ", value.replace(':', "\\:")),
            };
            for flag in names {
                let _ = write!(text, " \\\n{indent}    {}", quoted(&format!("*{flag}[{help}]{value}")));
            }
        }
        for (operand, _) in form.operands {
            let from = match kind(operand) {
                Kind::Files => "_files",
                Kind::Folders => "_files -/",
                Kind::Swarm => "_enjambre_paths",
                Kind::Other => " ",
            };
            let _ = write!(text, " \\\n{indent}    {}", quoted(&format!(":{operand}:{from}")));
        }
        text.push('\n');
    };
    if !command.verbs.is_empty() {
        let described: Vec<_> =
            command.verbs.iter().map(|verb| quoted(&format!("{}:{}", verb.word(), verb.about))).collect();
        let _ = writeln!(text, "    local -a verbs=({})", described.join(" "));
        text.push_str("    if ((CURRENT == 2)) && [[ $PREFIX != -* ]]; then _describe verb verbs; return; fi\n    case $words[2] in\n");
        for verb in command.verbs {
            let _ = writeln!(text, "        {})\n            shift words; ((CURRENT--))", verb.word());
            arguments(&mut text, verb, "            ");
            text.push_str("            return ;;\n");
        }
        text.push_str("    esac\n");
    }
    arguments(&mut text, command, "    ");
    text.push_str("}\n");
    if command.verbs.iter().any(|verb| verb.operands.iter().any(|(operand, _)| kind(operand) == Kind::Swarm)) {
        let _ = writeln!(
            text,
            "_enjambre_paths() {{\n    local -a paths=(${{(f)\"$(timeout 2 {name} search -q -- \"$PREFIX*\" 2>/dev/null | cut -f4)\"}})\n    compadd -a paths\n}}"
        );
    }
    let _ = writeln!(text, "compdef _{name} {name}");
    text
}

fn fish(command: &Command) -> String {
    let name = command.name;
    let mut text = format!("complete -c {name} -f\n");
    let words: Vec<_> = command.verbs.iter().map(|verb| verb.word()).collect();
    for form in command.verbs.iter().copied().chain([command]) {
        let when = match (form.is_verb(), words.is_empty()) {
            (true, _) => format!(" -n '__fish_seen_subcommand_from {}'", form.word()),
            (false, false) => format!(" -n 'not __fish_seen_subcommand_from {}'", words.join(" ")),
            (false, true) => String::new(),
        };
        for (names, value, help) in flags(form) {
            let _ = write!(text, "complete -c {name}{when}");
            for flag in names {
                let _ = match flag.strip_prefix("--") {
                    Some(long) => write!(text, " -l {long}"),
                    None => write!(text, " -s {}", flag.trim_start_matches('-')),
                };
            }
            text.push_str(match (value, kind(value)) {
                ("", _) => "",
                ("SHELL", _) => " -x -a 'bash zsh fish'",
                (_, Kind::Files) => " -r -F",
                _ => " -x",
            });
            let _ = writeln!(text, " -d {}", quoted(help));
        }
        for (operand, _) in form.operands {
            let from = match kind(operand) {
                Kind::Files => "-F",
                Kind::Folders => "-a '(__fish_complete_directories)'",
                Kind::Swarm => "-a '(timeout 2 peer search -q -- (commandline -ct)\"*\" 2>/dev/null | cut -f4)'",
                Kind::Other => continue,
            };
            let _ = writeln!(text, "complete -c {name}{when} {from}");
        }
    }
    for verb in command.verbs {
        let _ =
            writeln!(text, "complete -c {name} -n __fish_use_subcommand -a {} -d {}", verb.word(), quoted(verb.about));
    }
    text
}

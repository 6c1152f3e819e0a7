//! What the scripts ask about boards: which there are, how QEMU runs one, and whether images keep their budgets.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::elf::Elf;
use support::{Mistake, Table, all, named, qemu, size};

const USAGE: &str = "usage: fulmar-boards list | target BOARD
       fulmar-boards qemu BOARD --images DIR --flash FILE [--mac MAC] [--as-it-is] [-- QEMU OPTIONS]
       fulmar-boards size --images DIR [BOARD...]";
/// A board is watched for this long, which is several of its own looks at its stack, the agent's first join among them.
const RUN_SECONDS: u64 = 14;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => list(),
        ["target", board] => named(board).map(|table| println!("{}", table.triple)),
        ["qemu", board, rest @ ..] => run(board, rest),
        ["size", rest @ ..] => sizes(rest),
        _ => Err(Mistake(USAGE.into())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistake) => {
            eprintln!("error: {mistake}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), Mistake> {
    for table in all()? {
        println!("{} {}", table.name, table.triple);
    }
    Ok(())
}

/// Takes `--name VALUE` out of the words; what is left is returned.
fn options<'a>(words: &[&'a str], names: &mut [(&str, Option<&'a str>)]) -> Result<Vec<&'a str>, Mistake> {
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match names.iter_mut().find(|(name, _)| name == word) {
            Some((name, value)) => {
                *value = Some(words.next().ok_or_else(|| Mistake(format!("{name} needs a value\n{USAGE}")))?);
            }
            None => rest.push(*word),
        }
    }
    Ok(rest)
}

fn image(table: &Table, images: Option<&str>) -> Result<PathBuf, Mistake> {
    let images = images.ok_or_else(|| Mistake(format!("--images is missing\n{USAGE}")))?;
    Ok(Path::new(images).join(&table.triple).join("release").join(table.image_name()))
}

/// What QEMU is given to start: the boot code of a board that has some.
fn kernel(table: &Table, image: &Path) -> PathBuf {
    table.boot_name().map_or_else(|| image.to_owned(), |name| image.with_file_name(name))
}

fn run(board: &str, words: &[&str]) -> Result<(), Mistake> {
    let (ours, theirs) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    let mut names = [("--images", None), ("--flash", None), ("--mac", None)];
    let rest = options(ours, &mut names)?;
    let is_flashed = !rest.contains(&"--as-it-is");
    if let Some(word) = rest.iter().find(|word| **word != "--as-it-is") {
        return Err(Mistake(format!("what is {word}?\n{USAGE}")));
    }
    let [(_, images), (_, flash), (_, mac)] = names;
    let table = named(board)?;
    let flash = Path::new(flash.ok_or_else(|| Mistake(format!("--flash is missing\n{USAGE}")))?);
    if qemu::make_flash(&table, flash)? {
        eprintln!("made an erased flash: {}", flash.display());
    }
    let image = image(&table, images)?;
    let kernel = kernel(&table, &image);
    size::read_image(&kernel)?;
    if is_flashed {
        qemu::write_slot(&table, &size::read_image(&image)?, qemu::FIRST_VERSION, flash)?;
    }
    let (program, args) = qemu::command(&table, &kernel, flash, mac.unwrap_or(qemu::MAC))?;
    let error = Command::new(&program).args(args).args(theirs).exec();
    Err(Mistake(format!("{program}: {error}: is QEMU installed?")))
}

fn sizes(words: &[&str]) -> Result<(), Mistake> {
    let mut names = [("--images", None)];
    let boards = options(words, &mut names)?;
    let tables = match boards.as_slice() {
        [] => all()?,
        names => names.iter().map(|name| named(name)).collect::<Result<_, _>>()?,
    };
    let mut is_kept = true;
    for table in tables {
        let image = image(&table, names[0].1)?;
        let bytes = size::read_image(&image)?;
        let stack = table.qemu.as_ref().map(|_| measured_stack(&table, &image)).transpose()?;
        let elf = Elf::parse(&bytes)?;
        let taken = size::sizes(&elf);
        let (text, kept) = size::report(&table, taken, stack);
        print!("{text}{}", size::variables(&table.name, &elf, taken));
        is_kept &= kept;
    }
    if is_kept {
        Ok(())
    } else {
        Err(Mistake("a budget is exceeded: make the image smaller, or change board.toml".into()))
    }
}

/// Boots the board with the record of a hub that is not there, so that its agent runs, and answers the deepest stack that it said.
fn measured_stack(table: &Table, image: &Path) -> Result<u64, Mistake> {
    let flash = std::env::temp_dir().join(format!("fulmar-size-{}-{}", table.name, std::process::id()));
    let stack = deepest_stack(table, image, &flash);
    // Also after a failure: it is as long as the board's flash.
    let _ = std::fs::remove_file(&flash);
    stack?.ok_or_else(|| Mistake(format!("{} did not say its stack within {RUN_SECONDS} s", table.name)))
}

fn deepest_stack(table: &Table, image: &Path, flash: &Path) -> Result<Option<u64>, Mistake> {
    qemu::make_flash(table, flash)?;
    qemu::provision_for_nobody(table, flash)?;
    qemu::write_slot(table, &size::read_image(image)?, qemu::FIRST_VERSION, flash)?;
    let (program, args) = qemu::command(table, &kernel(table, image), flash, qemu::MAC)?;
    let told = |error: std::io::Error| Mistake(format!("{program}: {error}"));
    let mut child =
        Command::new(&program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(told)?;
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        // It ends with QEMU, which is killed below.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let until = Instant::now() + Duration::from_secs(RUN_SECONDS);
    let mut deepest = None;
    while let Some(left) = until.checked_duration_since(Instant::now())
        && let Ok(line) = lines.recv_timeout(left)
    {
        deepest = deepest.max(size::stack_of_line(&line));
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(deepest)
}

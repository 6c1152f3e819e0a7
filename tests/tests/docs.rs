//! Every tutorial and guide, word for word, with the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use tests::harness::guide;

/// Folders of pages that a reader follows with a terminal.
const FOLDERS: [&str; 3] = ["docs/tutorials", "docs/howto", "docs/runbooks"];

/// Blocks that no test machine can execute: page and reason, as the page says it.
const SKIPPED: [(&str, &str); 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

macro_rules! guides {
    ($($name:ident: $path:literal,)*) => {
        const GUIDES: &[&str] = &[$($path),*];
        $(#[test]
        fn $name() {
            guide::follow(root(), $path);
        })*
    };
}

guides! {
    two_commands: "docs/tutorials/1-two-commands.md",
    write_a_function: "docs/tutorials/2-write-a-function.md",
    lose_the_network: "docs/tutorials/3-lose-the-network.md",
    flash_your_first_board: "docs/tutorials/4-flash-your-first-board.md",
    flapping_device: "docs/runbooks/f3-flapping-device.md",
    network_partition: "docs/runbooks/f5-network-partition.md",
    back_up_and_restore: "docs/howto/backup-and-restore.md",
    draw_a_region: "docs/howto/draw-a-region.md",
    exclusive_work: "docs/howto/exclusive-work.md",
    external_broker: "docs/howto/external-broker.md",
    write_a_function_for_a_board: "docs/howto/function-for-a-board.md",
    join_a_linux_device: "docs/howto/join-linux-device.md",
    leaf_devices: "docs/howto/leaf-devices.md",
    lose_a_device: "docs/howto/lose-a-device.md",
    own_ca: "docs/howto/own-ca.md",
    namespaces: "docs/howto/namespaces.md",
    port_a_board: "docs/howto/port-a-board.md",
    tokens: "docs/howto/tokens.md",
    watch: "docs/howto/watch.md",
}

#[test]
fn the_page_about_functions_is_followed_too() {
    guide::follow(root(), "docs/functions.md");
}

#[test]
fn every_page_is_followed() {
    let pages = FOLDERS.iter().flat_map(|folder| {
        let files = std::fs::read_dir(root().join(folder)).unwrap();
        files.map(move |file| format!("{folder}/{}", file.unwrap().file_name().into_string().unwrap()))
    });
    let followed: BTreeSet<String> = GUIDES.iter().map(|page| (*page).to_owned()).collect();
    assert_eq!(pages.collect::<BTreeSet<String>>(), followed);
}

#[test]
fn no_block_is_left_out_in_silence() {
    let skipped = GUIDES.iter().flat_map(|page| {
        guide::skipped(&root().join(page)).into_iter().map(move |reason| ((*page).to_owned(), reason))
    });
    let allowed = SKIPPED.iter().map(|(page, reason)| ((*page).to_owned(), (*reason).to_owned()));
    assert_eq!(skipped.collect::<Vec<_>>(), allowed.collect::<Vec<_>>());
}

/// Links between pages, relative to the page they are on.
#[test]
fn no_link_leads_nowhere() {
    let folders = ["docs", "docs/reference"].iter().chain(&FOLDERS);
    let pages =
        folders.flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().path()));
    let pages = pages.chain(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|page| root().join(page)));
    let mut dead = Vec::new();
    for page in pages.filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
        let inside = links.filter(|link| !link.is_empty() && !link.contains(':'));
        let broken = inside.filter(|link| !page.parent().unwrap().join(link).exists());
        dead.extend(broken.map(|link| format!("{}: {link}", page.strip_prefix(root()).unwrap().display())));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_example_is_applied_and_taken_away_again() {
    let files = std::fs::read_dir(root().join("examples")).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    let blocks = names
        .iter()
        .map(|name| format!("```sh\nfulmar apply -f examples/{name} --wait\nfulmar delete -f examples/{name}\n```\n"));
    let start = "```sh background\nscripts/up\n```\n<!-- test: expect \"Next:\" -->\n";
    guide::follow_text(root(), "examples", &(start.to_owned() + &blocks.collect::<String>()));
}

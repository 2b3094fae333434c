//! A million paths as a fleet may have them, and texts that people look for; each is made from its number
//! alone, so that nothing has to be kept while memory is measured.

use enjambre::content::ContentId;

/// Files in a folder.
pub(crate) const FOLDER: usize = 100;

const HOSTS: [&str; 6] = ["web", "db", "cache", "queue", "edge", "batch"];
const LOGS: [&str; 6] = ["nginx-access", "nginx-error", "postgres", "kernel", "auth", "application"];
const PRODUCTS: [&str; 8] =
    ["enjambre", "billing", "search-api", "frontend", "importer", "mailer", "reports", "gateway"];
const FILES: [&str; 8] =
    ["README.md", "LICENSE", "CHANGELOG.md", "install.sh", "server", "client", "config.example.toml", "schema.sql"];
const DATASETS: [&str; 6] = ["clickstream", "orders", "weather-stations", "common-voice", "satellite-tiles", "genomes"];
const PLACES: [&str; 10] =
    ["Córdoba", "São Paulo", "Zürich", "東京", "北京", "Kraków", "Århus", "Montréal", "Москва", "Reykjavík"];
const EVENTS: [&str; 8] =
    ["Geburtstag", "été à la mer", "mountain hike", "wedding", "fiesta", "家族旅行", "garden", "conference"];

/// The path with this number.
pub(crate) fn path(number: usize) -> String {
    let (folder, file) = (number / FOLDER, number % FOLDER);
    let pick = |words: &[&'static str], by: usize| words[by % words.len()];
    let (year, month, day) = (2019 + folder % 8, 1 + folder / 8 % 12, 1 + folder / 96 % 28);
    match folder % 5 {
        0 | 1 => format!(
            "logs/{year}-{month:02}-{day:02}/{}-{:02}/{}.{file:02}.{folder}.log.gz",
            pick(&HOSTS, folder / 5),
            folder / 30 % 40,
            pick(&LOGS, file),
        ),
        2 => format!(
            "releases/{}/v{}.{}.{folder}/linux-{}/{file:02}-{}",
            pick(&PRODUCTS, folder / 5),
            folder / 40 % 4,
            folder / 160 % 30,
            ["amd64", "arm64"][folder / 5 % 2],
            pick(&FILES, file),
        ),
        3 => format!(
            "datasets/{}/{year}/{}-{folder}/part-{file:05}-of-00100.parquet",
            pick(&DATASETS, folder / 5),
            ["train", "test", "validation"][folder / 30 % 3],
        ),
        _ => format!(
            "photos/{year}/{month:02} {}/{} {folder}/IMG_{:04}.JPG",
            pick(&PLACES, folder / 5),
            pick(&EVENTS, folder / 50),
            1000 + 83 * folder % 9000 + file,
        ),
    }
}

/// Its content id, and size.
pub(crate) fn content(number: usize) -> (ContentId, u64) {
    let mut dice = Dice(number as u64);
    let mut bytes = [0; 32];
    bytes.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&dice.roll().to_be_bytes()));
    (ContentId::new(bytes), dice.roll() >> 40)
}

/// A text of 4 to 20 letters: part of one of so many paths, or every second time that with two letters changed.
pub(crate) fn text(number: usize, paths: usize) -> String {
    let mut dice = Dice(!(number as u64));
    let path: Vec<char> = path(dice.below(paths)).chars().collect();
    let length = 4 + dice.below(17.min(path.len() - 4));
    let start = dice.below(path.len() - length + 1);
    let mut text = path[start..start + length].to_vec();
    if number % 2 == 1 {
        for _ in 0..2 {
            text[dice.below(length)] = char::from(b'a' + dice.below(26) as u8);
        }
    }
    text.into_iter().collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

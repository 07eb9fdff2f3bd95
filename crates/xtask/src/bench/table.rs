//! The rows.

use tests::command::call;

/// The rows so far.
pub struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    /// Prints where and on what this runs.
    pub fn begin() -> Self {
        let said =
            |program: &str, args: &[&str]| call(program, args).unwrap_or_else(|_| "unknown".to_owned());
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("date    {}", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).trim());
        println!("commit  {}", said("git", &["describe", "--always", "--dirty", "--exclude=*"]).trim());
        println!("cores   {}", std::thread::available_parallelism().map_or(0, usize::from));
        println!("load    {}", load.trim());
        Self { rows: Vec::new() }
    }

    /// Adds a row and shows it at once, since the next may take minutes.
    pub fn row(&mut self, what: &str, ours: String, floor: String, against: String, mark: &str) {
        println!("measured: {what}: {ours} (floor {floor}; {against}; mark {mark})");
        self.rows.push([what.to_owned(), ours, floor, against, mark.to_owned()]);
    }

    /// Prints all of it, as Markdown.
    pub fn print(&self) {
        println!(
            "\n| what | ours | floor of the same run | against it | first mark |\n|---|---|---|---|---|"
        );
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("\nload at the end {}", load.trim());
    }
}

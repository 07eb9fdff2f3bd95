//! Tables without borders: two blanks between columns, headings in capitals, no blanks at line ends.

use comfy_table::{ContentArrangement, Table as Grid, presets};

/// A table in the making.
pub struct Table {
    grid: Grid,
    empty: bool,
}

impl Table {
    /// A table with headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(headings);
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { grid, empty: true }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.grid.add_row(cells.map(|cell| cell.replace('\n', " ")));
        self.empty = false;
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.empty
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.grid.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let mut table = Table::new(["ID", "NAME"]);
        table.row(["1".into(), "a".into()]);
        table.row(["20000".into(), "b\nc".into()]);
        assert_eq!(table.to_string(), "ID     NAME\n1      a\n20000  b c");
    }
}

//! `get --watch`: a list that grows by a line for every change.
//!
//! Tables begin with what is there, so that the columns fit; every line says in front what happened.

use crate::args::{Get, Global, Output};
use crate::client::Client;
use crate::columns::{self, Look};
use crate::failure::Failure;
use crate::list::{self, Parameters};
use crate::output::{line, no_geojson, print, print_table, yaml};
use crate::show;
use crate::table::Table;
use crate::target::{Target, collection};
use crate::watch::{Change, Flow, Memory, Watch};
use hub::model::{FieldSelector, Kind};
use serde_json::{Value, json};

const EVENT: &str = "EVENT";

pub fn objects(global: &Global, args: &Get, client: &Client, kind: Kind) -> Result<(), Failure> {
    if args.limit.is_some() || args.sort_by.is_some() {
        return Err(Failure::usage("a watch has no order and no end: leave out --limit and --sort-by"));
    }
    let namespace = (!args.all_namespaces).then_some(global.namespace.as_str());
    let parameters = list::parameters(&args.selection);
    run(global, args, client, kind, &collection(kind, namespace), parameters)
}

pub fn object(global: &Global, args: &Get, client: &Client, target: &Target) -> Result<(), Failure> {
    let parameters = vec![("fieldSelector", Some(format!("metadata.name={}", target.name)))];
    run(global, args, client, target.kind, &collection(target.kind, Some(&target.namespace)), parameters)
}

fn run(
    global: &Global,
    args: &Get,
    client: &Client,
    kind: Kind,
    path: &str,
    parameters: Parameters,
) -> Result<(), Failure> {
    let look = Look { shows_namespace: args.all_namespaces, ..Look::new(global.output, 0) };
    let mut header = vec![EVENT];
    header.extend(columns::header(kind, look));
    let mut rows = Rows::new(&header, args.no_headers, global.output);
    let row = |name: &str, item: &Value| {
        let mut cells = vec![name.to_owned()];
        cells.extend(columns::row(kind, item, Look { now_ms: show::now_ms(), ..look }));
        cells
    };
    let watch = Watch::new(client, path, parameters, Memory::Objects).for_at_most(global.timeout);
    watch.run(&mut |change| {
        let (name, item) = match change {
            Change::Added(item) => ("ADDED", item),
            Change::Modified(item) => ("MODIFIED", item),
            Change::Deleted(item) => ("DELETED", item),
            Change::Settled => {
                rows.settle(global.output)?;
                return Ok(Flow::GoOn);
            }
        };
        let object = || format!("{}/{}", kind.singular(), show::text(&item, "/metadata/name"));
        if !emit(global.output, name, &item, object)? {
            rows.add(row(name, &item))?;
        }
        Ok(Flow::GoOn)
    })
}

/// One change in the forms that need no columns; false: in a table.
fn emit(output: Output, name: &str, item: &Value, object: impl Fn() -> String) -> Result<bool, Failure> {
    match output {
        Output::Json => line(&json!({"type": name, "object": item}).to_string())?,
        Output::Yaml => print(&format!("---\n{}", yaml(&json!({"type": name, "object": item}))?))?,
        Output::JsonPath(template) => print(&template.render(item))?,
        Output::Name => line(&object())?,
        Output::GeoJson => return Err(no_geojson().why("a watch tells objects, one after the other")),
        Output::Table | Output::Wide => return Ok(false),
    }
    Ok(true)
}

/// A table that grows.
struct Rows {
    table: Table,
    header: Vec<&'static str>,
    is_bare: bool,
    output: Output,
    /// Known once what is there at the start has been shown.
    widths: Option<Vec<usize>>,
}

impl Rows {
    fn new(header: &[&'static str], is_bare: bool, output: Output) -> Self {
        Self { table: Table::new(header), header: header.to_vec(), is_bare, output, widths: None }
    }

    fn settle(&mut self, output: Output) -> Result<(), Failure> {
        let is_table = matches!(output, Output::Table | Output::Wide);
        self.widths = Some(self.table.widths());
        if !is_table {
            return Ok(());
        }
        print_table(output, &if self.is_bare { self.table.bare() } else { self.table.text() })
    }

    fn add(&mut self, cells: Vec<String>) -> Result<(), Failure> {
        let Some(widths) = &mut self.widths else {
            self.table.row(cells);
            return Ok(());
        };
        let mut table = Table::new(&self.header);
        table.row(cells);
        for (width, wanted) in widths.iter_mut().zip(table.widths()) {
            *width = (*width).max(wanted);
        }
        print_table(self.output, &table.lines(widths))
    }
}

pub fn events(
    global: &Global,
    args: &Get,
    client: &Client,
    fields: &FieldSelector,
    tail: String,
) -> Result<(), Failure> {
    let mut rows = Rows::new(&columns::EVENT_HEADER, args.no_headers, global.output);
    rows.settle(global.output)?;
    let parameters = vec![("tail", Some(tail))];
    let watch = Watch::new(client, "/v1/events", parameters, Memory::Nothing).for_at_most(global.timeout);
    watch.run(&mut |change| {
        if let Change::Added(item) = change
            && fields.matches(&item)
            && !emit(global.output, "ADDED", &item, || show::text(&item, "/object"))?
        {
            rows.add(columns::event(&item))?;
        }
        Ok(Flow::GoOn)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_there_at_the_start_and_grow() {
        let mut rows = Rows::new(&[EVENT, "NAME", "AGE"], false, Output::Table);
        rows.add(vec!["ADDED".to_owned(), "a-long-name".to_owned(), "1s".to_owned()]).unwrap();
        rows.settle(Output::Name).unwrap();
        assert_eq!(rows.widths, Some(vec![5, 11, 3]));
        rows.add(vec!["MODIFIED".to_owned(), "b".to_owned(), "1s".to_owned()]).unwrap();
        assert_eq!(rows.widths, Some(vec![8, 11, 3]));
    }
}

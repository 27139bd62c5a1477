//! Programs that wait for a table's size and programs that stream;
//! docs/semantics.md lists them.

use std::process::{Command, Stdio};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};

use crate::support::{TestMount, interpreter, said};

/// Programs that read a part of a file without asking for its size.
const STREAM: [&str; 5] = [
    "head -n 3 $1",
    "dd if=$1 bs=512 count=1 status=none",
    "awk 'NR == 1 { print; exit }' $1",
    "read -r line < $1; echo $line",
    "$PYTHON -c 'import os, sys; print(os.read(os.open(sys.argv[1], os.O_RDONLY), 100))' $1",
];

/// Programs that ask for the size first and then read a part of the file.
const WAIT: [&str; 9] = [
    "grep -m1 , $1",
    "sed 1q $1",
    "cat $1 | head -1",
    "cut -d, -f1 $1 | head -1",
    // It shows the first page and waits for a key.
    "timeout --foreground -s KILL 2 script -qc \"less -X $1\" /dev/null || true",
    "$PYTHON -c 'import sys; print(open(sys.argv[1]).readline())' $1",
    "$PYTHON -c 'import pandas, sys; print(pandas.read_csv(sys.argv[1], nrows=5))' $1",
    "$PYTHON -c 'import polars, sys; print(polars.read_csv(sys.argv[1], n_rows=5))' $1",
    "Rscript -e 'print(read.csv(commandArgs(TRUE)[1], nrows = 3))' $1",
];

#[test]
fn programs_that_need_no_size_stream_and_others_wait() {
    let mut repository = DemoRepository::builtin(1);
    let programs = STREAM.map(|program| (program, "estimate")).into_iter();
    let programs = programs.chain(WAIT.map(|program| (program, "exact")));
    let programs: Vec<_> = programs
        .enumerate()
        .map(|(number, (program, size))| {
            // Longer than the first slice of rows.
            let id = repository.add_table(&format!("table_{number}.csv"), 7, 40_000);
            (id, program, size)
        })
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let mount = TestMount::of(&portal);
    for (id, program, expected) in programs {
        let path = mount.path(&format!("objects/{id}.csv"));
        let output = Command::new("bash")
            .args(["-ec", program, "bash"])
            .arg(&path)
            .env("PYTHON", interpreter().get_program())
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{program}: {}", said(&output));
        assert!(!output.stdout.is_empty(), "{program} reads something");
        let size = mount.run(
            "getfattr",
            &[
                "--only-values",
                "-n",
                "user.icosfs.size",
                path.to_str().unwrap(),
            ],
        );
        assert_eq!(size.stdout, expected.as_bytes(), "{program}");
    }
}

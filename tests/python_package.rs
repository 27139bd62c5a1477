//! The Python package in `python/`: its own tests, run with the program under test.

use std::fs;
use std::path::Path;
use std::process::Command;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};

use crate::support::home::ICOSFS;
use crate::support::{
    Home, TestMount, co2, end_servers, interpreter, portal, python_script, servers_below,
    services_of, slices,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Prepares Python with the package, the program under test, and a home of its own.
fn python(home: &Path) -> Command {
    let mut command = interpreter();
    command
        .current_dir(ROOT)
        .env("HOME", home)
        .env("PYTHONPATH", "python")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("XDG_RUNTIME_DIR")
        .env("ICOSFS_PROGRAM", ICOSFS)
        .env("ICOSFS_CACHE_DIR", home.join("cache"));
    command
}

/// A home whose Python processes read `portal`. The servers that they start end with it.
struct PythonHome {
    home: Home,
    variables: Vec<(String, String)>,
}

impl PythonHome {
    fn of(portal: &DemoPortal) -> Self {
        let mut variables = vec![("ICOSFS_TOKEN".to_owned(), portal.token())];
        for service in services_of(portal, &[]) {
            let (name, url) = service.trim_start_matches("--").split_once('=').unwrap();
            let name = name.to_ascii_uppercase().replace('-', "_");
            variables.push((format!("ICOSFS_{name}"), url.to_owned()));
        }
        Self {
            home: Home::new(),
            variables,
        }
    }

    fn python(&self) -> Command {
        let mut command = python(self.home.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn with(mut self, name: &str, value: &dyn ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs the tests in one file of `tests/python/package`.
    fn passes(&self, file: &str) {
        let output = self
            .python()
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
            .arg(format!("tests/python/package/{file}"))
            .output()
            .expect("Python runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
        assert!(
            text.contains(" passed") && !text.contains(" skipped"),
            "{text}"
        );
    }

    /// The process ids of the servers that run.
    fn servers(&self) -> Vec<i32> {
        servers_below(self.home.path())
    }
}

impl Drop for PythonHome {
    fn drop(&mut self) {
        end_servers(self.home.path());
    }
}

#[test]
fn python_mount_lasts_as_long_as_its_block() {
    let portal = portal();
    PythonHome::of(&portal).passes("test_mount.py");
}

#[test]
fn python_package_is_typed_strictly() {
    let home = Home::new();
    let output = python(home.path())
        .args(["-m", "mypy", "--no-incremental"])
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

#[test]
fn python_filesystem_agrees_with_the_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    PythonHome::of(&portal)
        .with("ICOSFS_TEST_MOUNT", &mount.path("").display())
        .with("ICOSFS_TEST_TABLE", &co2(&portal))
        .passes("test_filesystem.py");
}

#[test]
fn python_libraries_read_the_same_as_from_the_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let netcdf = portal.repository().find("demo_inversion_2023.nc").unwrap();
    PythonHome::of(&portal)
        .with("ICOSFS_TEST_MOUNT", &mount.path("").display())
        .with("ICOSFS_TEST_TABLE", &co2(&portal))
        .with("ICOSFS_TEST_NETCDF", &netcdf)
        .passes("test_libraries.py");
}

#[test]
fn python_filesystem_passes_the_tests_of_fsspec() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenarios.zip");
    python_script("abstract_scenarios.py", std::slice::from_ref(&file));
    let mut repository = DemoRepository::builtin(1);
    let archive = repository.add_content("scenarios.zip", fs::read(&file).unwrap());
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    PythonHome::of(&portal)
        .with("ICOSFS_TEST_ARCHIVE", &archive)
        .passes("test_abstract.py");
}

/// Reads by `icos://` cost the portal what the same reads from a mount cost.
#[test]
fn python_reads_cost_as_many_requests_as_from_the_mount() {
    let script = "import sys, pandas, fsspec, icosfs\n\
        fsspec.register_implementation('icos', icosfs.IcosFileSystem)\n\
        print(pandas.read_csv(sys.argv[1]).shape, pandas.read_parquet(sys.argv[2]).shape)";
    let read = |home: &PythonHome, root: &str, id: &str| {
        let output = home
            .python()
            .args(["-c", script])
            .args([
                format!("{root}objects/{id}.csv"),
                format!("{root}objects/{id}.parquet"),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let (mounted, served) = (portal(), portal());
    let id = co2(&mounted).to_string();
    let mount = TestMount::of(&mounted);
    let root = format!("{}/", &mount.path("").display());
    let expected = read(&PythonHome::of(&mounted), &root, &id);
    let found = read(&PythonHome::of(&served), "icos://", &id);
    assert_eq!(found, expected);
    assert_eq!(slices(&served), slices(&mounted));
}

/// As the workers of Dask on one node: each process finds the node's server, and each
/// table is downloaded once.
#[test]
fn processes_that_read_the_same_tables_download_each_once() {
    let portal = portal();
    let home = PythonHome::of(&portal);
    let script = "import sys, icosfs\n\
        fs = icosfs.IcosFileSystem()\n\
        tables = [path for path in fs.glob('stations/HTM/*/*.csv') if '.original' not in path]\n\
        print(len(tables), [len(fs.cat_file(path)) for path in tables])";
    let running: Vec<_> = (0..6)
        .map(|_| {
            let mut command = home.python();
            command
                .args(["-c", script])
                .stdout(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let printed: Vec<Vec<u8>> = (running.into_iter())
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            output.stdout
        })
        .collect();
    assert!(
        printed.iter().all(|text| *text == printed[0]),
        "{printed:?}"
    );
    let text = String::from_utf8(printed[0].clone()).unwrap();
    let tables: usize = text.split(' ').next().unwrap().parse().unwrap();
    assert!(tables > 2, "{text}");
    assert_eq!(home.servers().len(), 1);
    // As many bytes as for one process.
    let alone = crate::support::portal();
    let output = (PythonHome::of(&alone)
        .python()
        .args(["-c", script])
        .output())
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(downloaded(&portal), downloaded(&alone));
}

/// The number of bytes of tables that `portal` has sent.
fn downloaded(portal: &DemoPortal) -> u64 {
    let requests = portal.requests();
    let slices = requests.iter().filter(|request| request.path == "/cpb");
    slices.map(|request| request.bytes).sum()
}

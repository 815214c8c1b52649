//! The binary: an allocator and the command line.

/// Measured against the system allocator: less time a request, and it keeps what it returns.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::cli::main()
}

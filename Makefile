# What a developer of seedwire types; `make help` lists it.
.POSIX:

CARGO = cargo
ARGS =
TARGET =
TIME = 600
IMAGE = localhost/seedwire

help:
	@sed -n 's/^#: //p' Makefile

#: make demo      run the main job on this machine, without root (ARGS="--lines 100 --json --keep")
demo: rust
	@[ -x "$${CARGO_TARGET_DIR:-target}/release/seedwire" ] || echo "building the release binary (some minutes, once)"
	@$(CARGO) run --release --quiet -- demo $(ARGS)

#: make test      the tests without privileges, then those between network namespaces
test: rust programs
	@$(CARGO) test --quiet --workspace
	@$(CARGO) test --quiet --test netns

#: make interop   against today's wireguard-go, boringtun-cli and CoreDNS (built once, needs Go)
interop: rust programs
	@scripts/peers.sh wireguard-go boringtun-cli coredns
	@$(CARGO) test --quiet --test interop

#: make e2e       real Promtail to real Loki (built once, needs Go)
e2e: rust programs
	@scripts/peers.sh loki promtail
	@$(CARGO) test --quiet --test e2e

#: make soak      the cases that take long: a hub away for ten minutes, ... (10 minutes)
soak: rust programs
	@$(CARGO) test --quiet --test netns -- --ignored

#: make kernel    against the kernel's WireGuard, in a guest with Debian's kernel (QEMU; as root)
kernel: rust programs
	@scripts/need.sh vm
	@$(CARGO) build --quiet
	@netns-tests/vm/kernel.sh

#: make bench-dns the static binary's DNS forwarder beside its peers, with the goals (8 minutes;
#:                ARGS=-q: 3 minutes; CoreDNS needs Go)
bench-dns: static
	@scripts/need.sh bench-dns
	@scripts/peers.sh coredns hickory-dns
	@netns-tests/bench/dns.sh $(ARGS)

#: make bench-tunnel  the static binary's tunnel beside its peers', with the goals (10 minutes; as
#:                root; ARGS=-q: 2 minutes; wireguard-go needs Go)
bench-tunnel: static
	@scripts/need.sh bench-tunnel
	@scripts/peers.sh wireguard-go boringtun-cli gotatun
	@netns-tests/bench/tunnel.sh $(ARGS)

#: make wireguard-go-suite  wireguard-go's own test script, with it and with `seedwire device` (root)
wireguard-go-suite: static
	@scripts/need.sh go "wireguard-go's tests"
	@scripts/peers.sh wireguard-go
	@netns-tests/wireguard-go-suite.sh

#: make fuzz      fuzz TARGET for TIME seconds and grow its corpus (needs cargo-fuzz and a C++
#:                compiler; TARGET=dns_answer TIME=600; without TARGET the targets are listed)
fuzz: rust
	@scripts/need.sh fuzz
	@if [ -z "$(TARGET)" ]; then $(CARGO) fuzz list; else scripts/fuzz.sh $(TARGET) $(TIME); fi

#: make static    the static binary for releases and images
static: rust
	@scripts/static.sh

#: make image     an image of that binary (needs buildah)
image: static
	@deploy/image.sh $(IMAGE)

#: make lint      format, clippy, licences, bans and sources of the dependencies
lint: rust
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --locked --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --quiet --locked --test '*' -- -D warnings
	@scripts/deny.sh licenses bans sources

#: make audit     known weaknesses in the dependencies (needs the network)
audit: rust
	@scripts/deny.sh advisories

#: make manifests check deploy/kubernetes and what `inject` writes against the Kubernetes API types
#:                (needs Go)
manifests: rust
	@scripts/need.sh go "the check of the manifests"
	@$(CARGO) build --quiet
	@scripts/injected.sh
	@cd deploy/validate && go vet . && go test . && go run . ../kubernetes/*.yaml

rust:
	@scripts/need.sh rust

programs:
	@scripts/need.sh programs

.PHONY: help demo test soak interop e2e kernel bench-dns fuzz static image lint audit manifests rust programs

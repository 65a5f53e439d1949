# Everything that is done with this tree, as commands. `make test` and `make lint` are the gates that CI runs.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
CADDY   := github.com/caddyserver/caddy/v2
LDFLAGS := -s -w -X $(CADDY).CustomVersion=anteroom-$(VERSION) -X $(CADDY).CustomBinaryName=anteroom

# One set of flags for every build of the binaries: another set compiles all of Caddy again (minutes, not seconds).
export CGO_ENABLED = 0

.PHONY: build demo parts test rows fuzz bench lint vuln clean

build: ## bin/anteroom, the product, and bin/anteroom-demo, the same with the sample apps
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/anteroom ./cmd/anteroom-demo

demo: build ## five apps, five users, one address to open
	bin/anteroom-demo

parts: ## what the tests need besides Go (Debian)
	@integration/parts.sh

test: parts build ## all tests, the end-to-end tests against real parts among them, and the fuzz targets
	@integration/test.sh
	@integration/fuzz.sh

rows: parts build ## the rows of the attack tables, one line each: who tests what, and does it hold
	go run ./integration/rows

fuzz: ## the fuzz targets alone; FUZZTIME=5m make fuzz for a long run
	@integration/fuzz.sh

bench: parts build ## what the gate costs beside a bare Caddy, and how soon a sign-out holds on every node
	go run ./integration/bench

lint: ## gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

vuln: ## known vulnerabilities in the dependencies; needs a way to the Go vulnerability database
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

clean: ## what was built and what the tests left; .parts stays
	rm -rf bin integration/artifacts

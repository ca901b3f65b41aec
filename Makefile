# Trade Store. Needs only Go and make. `make` lists the targets.
GO       ?= go
DATA_DIR ?= ./tradestore-data
FUZZTIME ?= 30s
ARGS     ?=

GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT         := bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -X tradestore/internal/telemetry.version=$(VERSION) -X tradestore/internal/telemetry.commit=$(COMMIT)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## start everything in one process: API on http://127.0.0.1:8000 (ARGS="--listen 127.0.0.1:9000")
	./tradestore dev --data-dir $(DATA_DIR) $(ARGS)

.PHONY: loadtest
loadtest: build ## check the outcome of every operation at 1,000/s, on a new stack (ARGS="--target http://...", "--find-capacity", --help)
	./tradestore loadtest $(ARGS)

.PHONY: stack
stack: build ## run Apache Kafka, DynamoDB Local and PostgreSQL until Ctrl-C; needs Java 17 and Maven (ARGS=--help)
	$(GO) build -o bin/stack ./test/stack/run
	bin/stack $(ARGS)

.PHONY: promtool
promtool: ## run the promtool of the Prometheus that tests use (ARGS="check rules dashboards/rules/*.yaml")
	@$(GO) run ./test/stack/promtool $(ARGS)

.PHONY: build
build: ## build ./tradestore, stamped with version and commit
	$(GO) build -ldflags "$(LDFLAGS)" -o tradestore .

.PHONY: test
test: ## run all tests: unit, integration and end-to-end (GOTESTFLAGS="-run Name" narrows them)
	$(GO) test -timeout 40m $(GOTESTFLAGS) ./...

.PHONY: test-race
test-race: ## run all tests with the race detector (needs a C compiler)
	$(MAKE) test GOTESTFLAGS="-race $(GOTESTFLAGS)"

.PHONY: cover
cover: ## measure the statement coverage of all tests together, in coverage/
	.ci/coverage

.PHONY: bench
bench: ## measure each stage against its limit and write bench/RESULTS.md; about 7 minutes on an idle machine (ARGS=-h)
	$(GO) run ./bench $(ARGS)

.PHONY: goals
goals: ## measure the goals and the scaling; more than an hour on an idle machine, up to 80 GB (ARGS="-only drain")
	$(GO) run ./bench -goals $(ARGS)

.PHONY: bench-micro
bench-micro: SHELL := bash
bench-micro: ## run the Go benchmarks and write bench/micro.txt for benchstat (BENCH=Decode PKG=./trade COUNT=10)
	@set -o pipefail; $(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),6) $(GOTESTFLAGS) $(or $(PKG),./...) | \
		tee $(or $(OUT),bench/micro.txt)

.PHONY: rules
rules: ## write the Prometheus rules in dashboards/rules (ARGS="-dashboards https://grafana -runbooks https://..../runbooks.md -out FOLDER")
	$(GO) run ./dashboards/rules/generate $(ARGS)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file func; do \
		$(GO) test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; done

.PHONY: schemathesis
schemathesis: build ## test a running stack against its OpenAPI document; needs Python 3 (ARGS="--max-time 300")
	.ci/schemathesis $(ARGS)

.PHONY: docs-page
docs-page: ## open /docs in a headless browser and try a call; needs Chromium or Chrome
	$(GO) test -count=1 -v -run '^TestDocsPageInABrowser$$' ./server

.PHONY: lint
lint: $(GOLANGCI_LINT) ## run the linters
	$(GOLANGCI_LINT) run ./...

.PHONY: verify
verify: ## run everything that CI checks
	.ci/run

.PHONY: nightly
nightly: ## run the long tests too, for hours (RUN="TestName|TestOther" narrows them)
	.ci/nightly $(if $(RUN),'$(RUN)')

.PHONY: docs
docs: ## write docs/configuration.md, from the settings in the code
	$(GO) run ./docs/generate

.PHONY: dashboards
dashboards: ## write the Grafana dashboards from their Go code
	$(GO) run ./dashboards/generate dashboards

.PHONY: observability
observability: ## start the real stack in containers with dashboards, logs and traces: http://127.0.0.1:3000; needs Docker
	mkdir -p bin/rules
	$(GO) run ./dashboards/rules/generate -dashboards http://127.0.0.1:3000 -out bin/rules
	RULES=./bin/rules OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 docker compose --profile observability up --build --wait

.PHONY: migrate
migrate: ## create or update the schema, the topic and its position rows (ARGS="--database-url ... --kafka-brokers ...")
	$(GO) run . migrate $(ARGS)

.PHONY: tools
tools: $(GOLANGCI_LINT) ## install the linter into bin/

$(GOLANGCI_LINT): # the linter is another module: without the GOFLAGS of this one
	GOFLAGS= GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/golangci-lint $@

.PHONY: clean
clean: ## delete the data of `make run`, the binary and reports
	$(GO) run . dev --data-dir $(DATA_DIR) --remove
	rm -rf tradestore coverage

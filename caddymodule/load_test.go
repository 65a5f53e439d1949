package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// bench is a folder with a certificate for the hosts of these tests, and Caddy's data and
// config folders in it: nothing is written elsewhere.
type bench struct {
	dir  string
	pool *x509.CertPool
}

func newBench(t *testing.T) bench {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("HOME", dir)
	b := bench{dir: dir, pool: x509.NewCertPool()}
	b.certificate(t, "tls", "app.test", "other.test", "localhost")
	b.write(t, "secret", "a-client-secret-of-the-tests")
	return b
}

// certificate writes NAME.pem and NAME.key with a new key, and trusts it.
func (b bench) certificate(t *testing.T, name string, hosts ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	b.pool.AddCert(cert)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	b.write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func (b bench) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// options is the global block of most tests; more goes into it.
const options = `{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	log default {
		output discard
	}
	storage file_system DIR/storage
	default_bind 127.0.0.1
	anteroom {
		identity oidc idp {
			issuer http://127.0.0.1:9
			client_id anteroom
			client_secret {file.DIR/secret}
			roles_claim roles
			role doctor from doctor
			role patient from patient
		}
		session {
			idle 15m
		}
	}
MORE}
`

func (b bench) file(more, sites string) string {
	text := strings.ReplaceAll(options, "MORE", more) + sites
	return strings.NewReplacer("DIR", b.dir, "TLS", "tls "+b.dir+"/tls.pem "+b.dir+"/tls.key").Replace(text)
}

// adapt turns a Caddyfile into JSON as the command line does.
func adapt(t *testing.T, caddyfile string) ([]byte, error) {
	t.Helper()
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return out, err
}

// adapted is the JSON of a Caddyfile that is right.
func adapted(t *testing.T, caddyfile string) []byte {
	t.Helper()
	out, err := adapt(t, caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// validate provisions a config without running it.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var cfg caddy.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(&cfg)
}

// run loads a config for real, on free ports, until the test ends.
func run(t *testing.T, config []byte) *caddyhttp.App {
	t.Helper()
	load(t, config)
	t.Cleanup(func() { _ = caddy.Stop() })
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App)
}

func load(t *testing.T, config []byte) {
	t.Helper()
	if err := caddy.Load(freePorts(t, config), true); err != nil {
		t.Fatal(err)
	}
}

// freePorts lets every server listen on a loopback port that the system chooses.
func freePorts(t *testing.T, config []byte) []byte {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	servers := cfg["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)
	for i, name := range slices.Sorted(maps.Keys(servers)) { // Caddy refuses one address twice, port 0 too
		servers[name].(map[string]any)["listen"] = []string{fmt.Sprintf("127.0.0.%d:0", i+1)}
	}
	out, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rounds is how often each config is loaded: Caddy provisions apps in random order, so that a
// check which holds in one order only would pass every other time.
const rounds = 12

// TestRefusedConfigs: each of these could be reached round the gate or with less than TLS 1.3.
// They must not load, and the message names the site or line and the mend.
func TestRefusedConfigs(t *testing.T) {
	b := newBench(t)
	app := func(inner string) string {
		return "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n" + inner + "\n}\n"
	}
	const plainApp = "\treverse_proxy 127.0.0.1:9"
	cases := []struct {
		name, more, sites string
		want              []string
	}{
		{"rewrite", "", app("\trewrite * /x\n" + plainApp), []string{"Caddyfile:", "rewrite", "host of its own"}},
		{"uri", "", app("\turi strip_prefix /x\n" + plainApp), []string{"Caddyfile:", "host of its own"}},
		{"method", "", app("\tmethod GET\n" + plainApp), []string{"Caddyfile:", "host of its own"}},
		{"handle_path", "", app("\thandle_path /x/* {\n" + plainApp + "\n\t}"), []string{"Caddyfile:", "host of its own"}},
		{"try_files", "", app("\ttry_files {path} /index.html\n" + plainApp), []string{"Caddyfile:", "host of its own"}},
		{"php_fastcgi", "", app("\tphp_fastcgi 127.0.0.1:9"), []string{"Caddyfile:", "host of its own"}},
		{"proxy rewrite", "", app("\treverse_proxy 127.0.0.1:9 {\n\t\trewrite /x{uri}\n\t}"), []string{"Caddyfile:", "host of its own"}},
		{"rewrite in handle_response", "", app("\treverse_proxy 127.0.0.1:9 {\n\t\thandle_response {\n\t\t\trewrite * /x\n\t\t\treverse_proxy 127.0.0.1:9\n\t\t}\n\t}"), []string{"Caddyfile:", "host of its own"}},
		{"proxy before the gate", "", "app.test:8443 {\n\tTLS\n\troute {\n\t\treverse_proxy /open/* 127.0.0.1:9\n\t\tanteroom {\n\t\t\tallow role doctor\n\t\t}\n\t\treverse_proxy 127.0.0.1:9\n\t}\n}\n", []string{"Caddyfile:", "stands before"}},
		{"order option", "\torder reverse_proxy before anteroom\n", app(plainApp), []string{"Caddyfile:", "stands before"}},
		{"respond before the gate", "\torder respond before anteroom\n", app("\trespond /x 200\n" + plainApp), []string{"stands before"}},
		{"gate in a handle", "", "app.test:8443 {\n\tTLS\n\thandle /x/* {\n\t\tanteroom {\n\t\t\tallow role doctor\n\t\t}\n\t}\n" + plainApp + "\n}\n", []string{"top level"}},
		{"two gates", "", app("\tanteroom {\n\t\tallow any\n\t}\n" + plainApp), []string{"stands twice"}},
		{"handle_errors with a proxy", "", app(plainApp + "\n\thandle_errors {\n\t\treverse_proxy 127.0.0.1:9\n\t}"), []string{"handle_errors"}},
		{"handle_errors with a nested proxy", "", app(plainApp + "\n\thandle_errors 403 {\n\t\troute {\n\t\t\treverse_proxy 127.0.0.1:9\n\t\t}\n\t}"), []string{"handle_errors"}},
		{"named route with a rewrite", "", "&(inner) {\n\trewrite * /x\n\treverse_proxy 127.0.0.1:9\n}\n" + app("\tinvoke inner"), []string{"host of its own"}},
		{"TLS 1.2", "", "app.test:8443 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"app.test", "TLS 1.3"}},
		{"TLS 1.2 to 1.3", "", "app.test:8443 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2 tls1.3\n\t}\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"app.test", "TLS 1.3"}},
		{"TLS 1.2 at a neighbour", "", "other.test:8443 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}\n}\n" + app(plainApp), []string{"app.test", "TLS 1.3"}},
		{"secrets log", "", "app.test:8443 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tinsecure_secrets_log DIR/keys\n\t}\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"app.test", "insecure_secrets_log"}},
		{"plain HTTP", "", "http://app.test:8080 {\n\tanteroom {\n\t\tallow any\n\t}\n" + plainApp + "\n}\n", []string{"app.test", "http://"}},
		{"http_port", "\thttp_port 8443\n", strings.Replace(app(plainApp), "\tTLS\n", "", 1), []string{"app.test", "TLS 1.3 only"}},
		{"no host", "", ":8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"names its hosts"}},
		{"wildcard host", "", "*.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"names its hosts"}},
		{"path in the address", "", "app.test:8443/x/* {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"names its hosts"}},
		{"same host, path beside it", "", "app.test:8443/open/* {\n\tTLS\n\treverse_proxy 127.0.0.1:9\n}\n" + app(plainApp), []string{"app.test", "outside the gate"}},
		{"same host, other port, no gate", "", app(plainApp) + "app.test:9443 {\n\tTLS\n\treverse_proxy 127.0.0.1:9\n}\n", []string{"app.test", "outside the gate"}},
		{"catch-all with a proxy on another port", "", app(plainApp) + ":9443 {\n\tTLS\n\treverse_proxy 127.0.0.1:9\n}\n", []string{"app.test", "outside the gate"}},
		{"same host, other port, TLS 1.2", "", app(plainApp) + "app.test:9443 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}\n\trespond x\n}\n", []string{"app.test", "on another port", "TLS 1.3"}},
		{"same host, other port, other rules", "", app(plainApp) + "app.test:9443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\n", []string{"differ only by port"}},
		{"no allow line", "", "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tdeny any\n\t}\n}\n", []string{"Caddyfile:", "allow"}},
		{"empty block", "", "app.test:8443 {\n\tTLS\n\tanteroom\n}\n", []string{"Caddyfile:", "allow"}},
		{"bad policy lines, all of them", "", "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow rolle doctor\n\t\tallow role doctor get /x\n\t\tallow any x\n\t}\n}\n", []string{"Caddyfile:28", "Caddyfile:29", "Caddyfile:30"}},
		{"bad allow_origin", "", "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t\tallow_origin portal.test\n\t}\n}\n", []string{"Caddyfile:", "portal.test"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for range rounds {
				config, err := adapt(t, b.file(c.more, c.sites))
				if err == nil {
					err = validate(t, config)
				}
				if err == nil {
					t.Fatal("it loads")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Fatalf("the message lacks %q:\n%v", want, err)
					}
				}
			}
		})
	}
}

// TestAcceptedConfigs: what an operator would write besides the gate must go on loading.
func TestAcceptedConfigs(t *testing.T) {
	b := newBench(t)
	for name, sites := range map[string]string{
		"ten lines":              "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n",
		"harmless before it":     "app.test:8443 {\n\tTLS\n\tlog\n\ttracing\n\theader X-A b\n\tmap {path} {x} {\n\t\tdefault y\n\t}\n\tvars a b\n\tlog_skip /x\n\trequest_body {\n\t\tmax_size 1MB\n\t}\n\treverse_proxy 127.0.0.1:9\n\tanteroom {\n\t\tallow role doctor\n\t}\n}\n",
		"handlers behind it":     "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\tencode gzip\n\tredir /old /new\n\thandle /api/* {\n\t\treverse_proxy 127.0.0.1:9\n\t}\n\thandle {\n\t\treverse_proxy 127.0.0.1:8 {\n\t\t\theader_up X-A b\n\t\t}\n\t}\n\thandle_errors {\n\t\trespond \"sorry\"\n\t}\n}\n",
		"an open neighbour":      "other.test:8443 {\n\tTLS\n\trewrite * /x\n\treverse_proxy 127.0.0.1:9\n}\napp.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n",
		"two ports, same rules":  "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t\tallow role doctor /x\n\t}\n}\napp.test:9443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor /x\n\t\tallow any\n\t}\n}\n",
		"automatic certificates": "app.test {\n\ttls internal\n\tanteroom {\n\t\tallow any\n\t}\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				config, err := adapt(t, b.file("", sites))
				if err != nil {
					t.Fatal(err)
				}
				if err := validate(t, config); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(b.dir, "data", "caddy", "anteroom")); err == nil {
		t.Error("validate made the data folder: it must open nothing")
	}
}

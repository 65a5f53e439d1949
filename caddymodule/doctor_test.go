package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// said finds the lines about something.
func said(found []finding, about string) (lines []finding) {
	for _, f := range found {
		if f.About == about {
			lines = append(lines, f)
		}
	}
	return lines
}

// TestDoctor: a provider that answers, one that is dead and one that is spelled wrongly are told apart, each with its remedy; what is
// wrong with one hides nothing of the others; and no line holds a secret.
func TestDoctor(t *testing.T) {
	b := newBench(t)
	good, spelled := idptest.New(t), idptest.New(t)
	dead := "http://127.0.0.1:1"
	block := func(name, issuer string) string {
		return "\t\tidentity oidc " + name + " {\n\t\t\tissuer " + issuer + "\n\t\t\tclient_id anteroom\n\t\t\tclient_secret {file." + b.dir + "/secret}\n\t\t\tusername_prefix " + name + ":\n\t\t}\n"
	}
	site := "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	text := strings.Replace(b.file("", site), "http://127.0.0.1:9\n", good.URL+"\n", 1)
	text = strings.Replace(text, "\t\tsession {", block("dead", dead)+block("spelled", spelled.URL+"/")+"\t\tsession {", 1)
	config, err := adapt(t, text)
	if err != nil {
		t.Fatal(err)
	}
	found := diagnose(t.Context(), config)
	for about, state := range map[string]string{
		"config": stateOK, "provider idp": stateOK, "provider dead": stateFail, "provider spelled": stateFail, "store": stateWarn, "certificate app.test": stateWarn,
	} {
		lines := said(found, about)
		if !slices.ContainsFunc(lines, func(f finding) bool { return f.State == state && (state == stateOK || f.Remedy != "") }) {
			t.Errorf("%s: no line says %s with a remedy: %+v", about, state, lines)
		}
		if state == stateOK && slices.ContainsFunc(lines, func(f finding) bool { return f.State == stateFail }) {
			t.Errorf("%s is well: %+v", about, lines)
		}
	}
	for _, f := range found {
		if strings.Contains(f.What+f.Remedy, "a-client-secret-of-the-tests") {
			t.Errorf("a secret: %+v", f)
		}
	}
	if lines := said(found, "provider spelled"); len(lines) == 0 || !strings.Contains(lines[0].What+lines[0].Remedy, "issuer") {
		t.Errorf("a wrong spelling is told as %+v", lines)
	}
}

// TestDoctorOnBrokenConfig: a config that does not load is one line; the providers are looked at all the same.
func TestDoctorOnBrokenConfig(t *testing.T) {
	b := newBench(t)
	good := idptest.New(t)
	site := "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\trewrite * /x\n\treverse_proxy 127.0.0.1:9\n}\n"
	config, err := adapt(t, strings.Replace(b.file("", site), "http://127.0.0.1:9\n", good.URL+"\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	found := diagnose(t.Context(), config)
	if lines := said(found, "config"); len(lines) != 1 || lines[0].State != stateFail || !strings.Contains(lines[0].What, "rewrite") {
		t.Errorf("config: %+v", lines)
	}
	if lines := said(found, "provider idp"); len(lines) == 0 {
		t.Error("nobody looked at the provider")
	}
	for _, text := range []string{"{}", "{", `{"apps":{"anteroom":null}}`} {
		if found := diagnose(t.Context(), []byte(text)); len(found) != 1 || found[0].State != stateFail {
			t.Errorf("%s: %+v", text, found)
		}
	}
}

// TestDoctorDirectory: what cannot be written to, or read by too many, is told; nothing is made and nothing is left.
func TestDoctorDirectory(t *testing.T) {
	dir := t.TempDir()
	private, open := filepath.Join(dir, "private"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{private: 0o700, open: 0o755} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, state := range map[string]string{private: stateOK, open: stateWarn, file: stateFail, filepath.Join(dir, "none"): stateWarn} {
		if f := examineDirectory("store", path); f.State != state {
			t.Errorf("%s: %+v", path, f)
		}
	}
	if left, err := os.ReadDir(private); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if exists(filepath.Join(dir, "none")) {
		t.Error("doctor made the folder")
	}
}

// TestDoctorHandshake: the certificate is the one that the running server shows.
func TestDoctorHandshake(t *testing.T) {
	b := newBench(t)
	pair, err := tls.LoadX509KeyPair(filepath.Join(b.dir, "tls.pem"), filepath.Join(b.dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	srv := &caddyhttp.Server{Listen: []string{listener.Addr().String()}}
	if f := examineCertificate(t.Context(), srv, "app.test"); f.State != stateWarn || !strings.Contains(f.What, "does not trust") {
		t.Errorf("%+v", f)
	}
	if f := examineCertificate(t.Context(), srv, "else.test"); f.State != stateFail {
		t.Errorf("%+v", f)
	}
	for listen, want := range map[string]string{":8443": "127.0.0.1:8443", "0.0.0.0:1": "127.0.0.1:1", "[::1]:2": "[::1]:2", "udp/:3": "", "10.0.0.1:4": "10.0.0.1:4"} {
		if got := dialable([]string{listen}); got != want {
			t.Errorf("%s is tried at %q, not %q", listen, got, want)
		}
	}
}

// chain reads NAME.pem.
func (b bench) chain(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(b.dir, name+".pem"), filepath.Join(b.dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{pair.Leaf}
}

// TestJudgeCertificate: another name, an end that came or comes soon, and an issuer that nobody knows are told apart.
func TestJudgeCertificate(t *testing.T) {
	b := newBench(t)
	chain := b.chain(t, "tls")
	now := time.Now()
	for name, c := range map[string]struct {
		host  string
		at    time.Time
		state string
		says  string
	}{
		"nobody trusts it": {"app.test", now, stateWarn, "does not trust"},
		"another name":     {"else.test", now, stateFail, "another name"},
		"it ended":         {"app.test", now.Add(2 * time.Hour), stateFail, "ended"},
		"it ends soon":     {"app.test", now.Add(55 * time.Minute), stateWarn, "ends soon"},
	} {
		f := judgeCertificate("certificate", c.host, chain, c.at)
		if f.State != c.state || !strings.Contains(f.What, c.says) || f.Remedy == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

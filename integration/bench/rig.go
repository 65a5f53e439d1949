package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
)

// rig is a backend, an OpenID Provider and the servers to compare.
type rig struct {
	dir     string
	pool    *x509.CertPool
	backend string
	issuer  string
	servers []*server
}

// server is one process of the program.
type server struct {
	name, url, cookie string
	log               string // file of its log, errors only
	cmd               *exec.Cmd
}

// says is the end of a server's log.
func (s *server) says() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

const clientSecret = "bench-secret-of-32-characters-00"

// newRig runs the three variants beside each other.
func newRig(binary string) (*rig, error) {
	r, err := prepare("bare", "gate", "gate+audit")
	if err != nil {
		return nil, err
	}
	for _, s := range r.servers {
		if err := r.start(s, binary); err != nil {
			r.close()
			return nil, fmt.Errorf("starting %s: %w", s.name, err)
		}
	}
	return r, nil
}

// prepare makes everything but the servers, which get their ports.
func prepare(names ...string) (*rig, error) {
	dir, err := os.MkdirTemp("", "anteroom-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{dir: dir, pool: x509.NewCertPool()}
	if err := r.fill(names); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *rig) fill(names []string) error {
	if err := r.certificate(); err != nil {
		return fmt.Errorf("making the certificate: %w", err)
	}
	var err error
	if r.backend, err = serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })); err != nil {
		return err
	}
	client := idp.Client{ID: "bench", Secret: clientSecret}
	for _, name := range names {
		port, err := freePort()
		if err != nil {
			return err
		}
		s := &server{name: name, url: "https://localhost:" + port, log: filepath.Join(r.dir, name+".log")}
		r.servers = append(r.servers, s)
		client.RedirectURIs = append(client.RedirectURIs, s.url+"/.anteroom/callback/idp")
	}
	if err := r.provider(client); err != nil {
		return fmt.Errorf("starting the provider: %w", err)
	}
	return nil
}

func (r *rig) provider(client idp.Client) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.issuer = "http://" + l.Addr().String()
	users := idp.DemoUsers()
	for i := range crowd {
		users = append(users, idp.User{Username: member(i), Password: member(i), Name: "Doctor " + member(i), Email: member(i) + "@hospital.example", Roles: []string{"doctor"}})
	}
	p, err := idp.New(idp.Config{Issuer: r.issuer, Clients: []idp.Client{client}, Users: users})
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, p) }() // ends with the program
	return nil
}

// start runs one variant.
func (r *rig) start(s *server, binary string) error {
	global := ""
	if s.name != "bare" {
		global = "\t\tdirectory " + filepath.Join(r.dir, s.name) + "\n"
		if s.name == "gate" {
			global += "\t\taudit off\n"
		}
	}
	return r.run(s, binary, global)
}

// run writes the config of a server, runs it and waits until it answers. Without lines for the global option it is a bare proxy.
func (r *rig) run(s *server, binary, lines string) error {
	global, gate := "", ""
	if lines != "" {
		global = fmt.Sprintf("\tanteroom {\n\t\tidentity oidc idp {\n\t\t\tissuer %s\n\t\t\tclient_id bench\n\t\t\tclient_secret {env.BENCH_SECRET}\n\t\t\troles_claim roles\n\t\t\trole doctor from doctor\n\t\t}\n%s\t}\n",
			r.issuer, lines)
		gate = "\tanteroom {\n\t\tallow role doctor\n\t\tallow role patient GET /patients/{user}/*\n\t}\n"
	}
	config := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tdefault_bind 127.0.0.1\n\tlog {\n\t\tlevel ERROR\n\t}\n%s}\n%s {\n\ttls %[3]s/tls.pem %[3]s/tls.key\n%s\treverse_proxy %s\n}\n",
		global, s.url, r.dir, gate, r.backend)
	return r.launch(s, binary, config)
}

// launch runs a server with a Caddyfile and waits until it answers.
func (r *rig) launch(s *server, binary, config string) error {
	file := filepath.Join(r.dir, s.name+".caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(binary, "run", "--config", file, "--adapter", "caddyfile")
	s.cmd.Env = append(os.Environ(), "HOME="+r.dir, "XDG_DATA_HOME="+r.dir+"/data", "XDG_CONFIG_HOME="+r.dir+"/config", "BENCH_SECRET="+clientSecret)
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), r.tls())
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w; it says %s", err, s.says())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) tls() *tls.Config {
	return &tls.Config{RootCAs: r.pool, MinVersion: tls.VersionTLS13}
}

// signInAll makes new sessions, because wrk never takes a renewed cookie: after a minute each of its
// requests would be one whose session is due for renewal. The bare server gets a session's cookies
// too, so that the bytes on the wire are the same for all.
func (r *rig) signInAll() error {
	for _, s := range r.servers[1:] {
		var err error
		if s.cookie, err = r.signIn(s.url, "doctor", net.IPv4(127, 0, 0, 1)); err != nil {
			return fmt.Errorf("signing in at %s: %w", s.name, err)
		}
	}
	r.servers[0].cookie = r.servers[1].cookie
	return nil
}

var formField = regexp.MustCompile(`name="request" value="([^"]*)"`)

// signIn goes through the provider's form, as a browser at that address, and returns the session's two cookies as a header value.
func (r *rig) signIn(site, user string, from net.IP) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	tr := &http.Transport{TLSClientConfig: r.tls(), DialContext: dialer.DialContext}
	defer tr.CloseIdleConnections()
	c := &http.Client{Jar: jar, Transport: tr}
	res, err := c.Get(site + "/.anteroom/login?return_to=/records/17")
	if err != nil {
		return "", err
	}
	page, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	_ = res.Body.Close()
	if err != nil {
		return "", err
	}
	m := formField.FindSubmatch(page)
	if m == nil {
		return "", errors.New("the provider showed no form")
	}
	res, err = c.PostForm(r.issuer+"/login", url.Values{"request": {string(m[1])}, "username": {user}, "password": {user}})
	if err != nil {
		return "", err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the app answered %d", res.StatusCode)
	}
	at, err := url.Parse(site)
	if err != nil {
		return "", err
	}
	var pairs []string
	for _, k := range jar.Cookies(at) {
		if k.Name == "__Host-anteroom" || k.Name == "__Host-anteroom-ctx" {
			pairs = append(pairs, k.Name+"="+k.Value)
		}
	}
	if len(pairs) != 2 {
		return "", fmt.Errorf("%d session cookies", len(pairs))
	}
	return strings.Join(pairs, "; "), nil
}

// certificate makes a P-256 certificate for localhost that signs itself.
func (r *rig) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "anteroom bench"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	r.pool.AddCert(cert)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(r.dir, "tls.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(r.dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

// serve runs a handler on a free loopback port until the program ends.
func serve(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(l, h) }() // ends with the program
	return l.Addr().String(), nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func (r *rig) close() {
	for _, s := range r.servers {
		if s.cmd != nil && s.cmd.Process != nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	}
	_ = os.RemoveAll(r.dir)
}

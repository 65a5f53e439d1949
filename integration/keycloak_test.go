package integration

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Keycloak, the provider that most hospitals with one of their own run: one process for the whole run of the tests, with the
// realm of keycloak/realm.json in memory. Its archive stays as parts.sh left it; what it writes is in a folder of the run.

type keycloak struct {
	base   string // of all realms
	issuer string // of the realm
	dir    string
	proc   *process
}

const (
	keycloakAdmin  = "tests"
	keycloakSecret = "tests-of-the-realm-0123456789"
	// totpSecret is everybody's second factor; realm.json has it for the people in it.
	totpSecret = "integration-totp-secret"
)

// theKeycloak is nil until a test asks for it.
var (
	theKeycloak *keycloak
	keycloakMu  sync.Mutex
)

// TestMain ends what is started once for all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if k := theKeycloak; k != nil {
		k.proc.kill()
		os.RemoveAll(k.dir)
	}
	os.Exit(code)
}

// startedKeycloak returns the realm, ready to be used. It listens on loopback only: no cluster, no management port.
func startedKeycloak(t testing.TB) *keycloak {
	t.Helper()
	keycloakMu.Lock()
	if theKeycloak == nil {
		k := &keycloak{base: fmt.Sprintf("http://127.0.0.1:%d", freePort(t))}
		k.issuer = k.base + "/realms/hospital"
		if err := errors.Join(k.home(part(t, "keycloak/dist")), k.run()); err != nil {
			keycloakMu.Unlock()
			t.Fatal(err)
		}
		theKeycloak = k
	}
	k := theKeycloak
	keycloakMu.Unlock()
	k.proc.waitFor(t, 8*time.Minute, func() error { // alone it starts within half a minute
		res, err := http.Get(k.issuer + "/.well-known/openid-configuration")
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the realm is answered %d", res.StatusCode)
		}
		return nil
	})
	assertLoopback(t, k.proc)
	return k
}

// home makes a folder that Keycloak takes for its own: its program by reference, its realms and whatever it writes in fact.
func (k *keycloak) home(dist string) error {
	dir, err := os.MkdirTemp("", "anteroom-keycloak-")
	if err != nil {
		return err
	}
	k.dir = dir
	realm, err := os.ReadFile(filepath.Join(root, "integration", "keycloak", "realm.json"))
	if err != nil {
		return err
	}
	script, err := os.ReadFile(filepath.Join(dist, "bin", "kc.sh"))
	if err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost"
	for _, name := range siteNames {
		hosts += "\n127.0.0.1 " + name
	}
	files := map[string][]byte{
		"bin/kc.sh": script, "data/import/hospital-realm.json": realm, "ca.pem": ca().pem, "hosts": []byte(hosts + "\n"), "conf/keycloak.conf": nil, "tmp/x": nil,
	}
	for name, content := range files {
		path := filepath.Join(k.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"lib", "providers", "themes"} {
		if err := os.Symlink(filepath.Join(dist, name), filepath.Join(k.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (k *keycloak) run() error {
	logs := filepath.Join(root, "integration", "artifacts")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	logPath := filepath.Join(logs, "keycloak.log")
	logFile, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer logFile.Close() // the program has its own descriptor
	cmd := exec.Command(filepath.Join(k.dir, "bin", "kc.sh"), "start", "--optimized", "--import-realm", "--cache=local",
		"--http-enabled=true", "--http-host=127.0.0.1", "--http-port="+k.base[strings.LastIndexByte(k.base, ':')+1:], "--hostname="+k.base,
		"--truststore-paths="+filepath.Join(k.dir, "ca.pem"), "--log-level=INFO,org.keycloak.events:DEBUG")
	tmp := filepath.Join(k.dir, "tmp")
	cmd.Env = append(cleanEnv(), "HOME="+k.dir, "TMPDIR="+tmp, "KC_BOOTSTRAP_ADMIN_CLIENT_ID="+keycloakAdmin, "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET="+keycloakSecret,
		"JAVA_OPTS_KC_HEAP=-Xms64m -Xmx512m", "JAVA_OPTS_APPEND=-XX:-UsePerfData -Djava.io.tmpdir="+tmp+" -Djdk.net.hosts.file="+filepath.Join(k.dir, "hosts"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = logFile, logFile, k.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: "keycloak", cmd: cmd, logPath: logPath, done: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the program
		runtime.LockOSThread() // the kernel ends the program with the thread that began it: that thread stays
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended, nobody asks
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting Keycloak: %w", err)
	}
	k.proc = p
	return nil
}

// admin asks the administrators' interface of the realm; into may be nil.
func (k *keycloak) admin(t testing.TB, method, path string, body, into any) http.Header {
	t.Helper()
	res, err := http.PostForm(k.base+"/realms/master/protocol/openid-connect/token",
		url.Values{"grant_type": {"client_credentials"}, "client_id": {keycloakAdmin}, "client_secret": {keycloakSecret}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&token); err != nil || token.Access == "" {
		t.Fatalf("Keycloak gives the administrator no token: %d %v", res.StatusCode, err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, k.base+"/admin/realms/hospital"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Access)
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode > 299 {
		t.Fatalf("Keycloak answers %s %s with %d %s %v", method, path, answer.StatusCode, content, err)
	}
	if into != nil {
		if err := json.Unmarshal(content, into); err != nil {
			t.Fatalf("%s: %v", content, err)
		}
	}
	return answer.Header
}

// client registers anterooms on the given ports, as an operator does: exact addresses, PKCE, a back-channel.
func (k *keycloak) client(t testing.TB, ports ...int) (id string) {
	t.Helper()
	id = fmt.Sprintf("anteroom-%d", ports[0])
	var callbacks, returns []string
	for _, port := range ports {
		for _, host := range []string{appHost, wideHost} {
			callbacks = append(callbacks, fmt.Sprintf("https://%s:%d/.anteroom/callback/hospital", host, port))
			returns = append(returns, fmt.Sprintf("https://%s:%d/.anteroom/signed-out", host, port))
		}
	}
	mapper := func(name, kind string, config map[string]string) map[string]any {
		config["id.token.claim"], config["access.token.claim"], config["jsonType.label"] = "true", "true", "String"
		return map[string]any{"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}
	}
	k.admin(t, "POST", "/clients", map[string]any{
		"clientId": id, "secret": clientSecret, "publicClient": false, "redirectUris": callbacks,
		"standardFlowEnabled": true, "implicitFlowEnabled": false, "directAccessGrantsEnabled": false,
		"attributes": map[string]string{
			"pkce.code.challenge.method": "S256", "use.refresh.tokens": "true", "post.logout.redirect.uris": strings.Join(returns, "##"),
			"backchannel.logout.url":              fmt.Sprintf("https://%s:%d/.anteroom/backchannel/hospital", appHost, ports[0]),
			"backchannel.logout.session.required": "true",
		},
		"protocolMappers": []any{
			mapper("roles", "oidc-usermodel-realm-role-mapper", map[string]string{"claim.name": "realm_access.roles", "multivalued": "true"}),
			mapper("groups", "oidc-group-membership-mapper", map[string]string{"claim.name": "groups", "full.path": "false"}),
		},
	}, nil)
	return id
}

// user makes an account of a test's own, with a second factor.
func (k *keycloak) user(t testing.TB, name string, groups ...string) {
	t.Helper()
	k.admin(t, "POST", "/users", map[string]any{
		"username": name, "enabled": true, "emailVerified": true, "firstName": strings.ToUpper(name[:1]) + name[1:], "lastName": "Example",
		"email": name + "@hospital.test", "groups": groups,
		"credentials": []any{
			map[string]any{"type": "password", "value": name + "-pw", "temporary": false},
			map[string]any{
				"type": "otp", "secretData": mustJSON(map[string]string{"value": totpSecret}),
				"credentialData": mustJSON(map[string]any{"subType": "totp", "digits": 6, "period": 30, "algorithm": "HmacSHA1"}),
			},
		},
	}, nil)
}

func (k *keycloak) userID(t testing.TB, name string) string {
	t.Helper()
	var found []struct{ ID string }
	k.admin(t, "GET", "/users?exact=true&username="+url.QueryEscape(name), nil, &found)
	if len(found) != 1 {
		t.Fatalf("Keycloak knows %d users %q", len(found), name)
	}
	return found[0].ID
}

// totp is the code of the present half minute (RFC 6238, RFC 4226).
func totp() string {
	mac := hmac.New(sha1.New, []byte(totpSecret))
	var moment [8]byte
	big.NewInt(time.Now().Unix() / 30).FillBytes(moment[:])
	mac.Write(moment[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	code := new(big.Int).SetBytes(append([]byte{sum[at] & 0x7f}, sum[at+1:at+4]...))
	return fmt.Sprintf("%06d", code.Int64()%1000000)
}

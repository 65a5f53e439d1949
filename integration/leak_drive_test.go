package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
	"github.com/anteroom-proxy/anteroom/rekey"
)

// driveSignIn: people sign in, some wrongly, and what is in their browsers is secret.
func (l *leak) driveSignIn(t *testing.T) {
	t.Helper()
	l.op.ready(t)
	b := newBrowser(t)
	p := b.visit(t, l.url(appHost, "/.anteroom/login?return_to=/members/x"))
	p = b.submit(t, p, map[string]string{"username": "dana", "password": l.say["wrong password"]})
	b.trace = nil
	p = b.submit(t, p, map[string]string{"username": "dana", "password": "dana-pw"})
	_, cookies := b.cookies(t, l.url(appHost, "/"))
	parts := strings.Split(cookies[cookieToken], ".")
	if p.Status != http.StatusOK || len(parts) != 3 || cookies[cookieContext] == "" {
		t.Fatalf("signing in: %d, cookies %v\n%s", p.Status, cookies, strings.Join(b.trace, "\n"))
	}
	l.control(t, b)
	l.secrets.plant(t, "session's signature", []byte(parts[2])) // the head of a token is no secret
	l.secrets.plant(t, "session's context", []byte(cookies[cookieContext]))
	callback := ""
	for _, step := range b.trace {
		u, err := url.Parse(strings.Fields(step)[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"code", "state", "nonce"} {
			if v := u.Query().Get(name); v != "" {
				l.secrets.plant(t, "sign-in's "+name, []byte(v))
			}
		}
		if u.Query().Has("code") {
			callback = u.String()
		}
	}
	if callback == "" {
		t.Fatalf("no code on the way: %v", b.trace)
	}
	dana := &session{"dana", cookies[cookieToken], cookies[cookieContext]}
	mixed := &session{"dana", cookies[cookieToken][:len(cookies[cookieToken])-8] + "AAAAAAAA", cookies[cookieContext]}
	for _, who := range []*session{dana, mixed, {"dana", dana.token, dana.context[:len(dana.context)-4] + "AAAA"}, {"dana", dana.context, dana.token}, nil} {
		for _, target := range []string{"/public/x", "/members/x", "/nothing", "/.anteroom/", "/.anteroom/session", "/.anteroom/callback/hospital?code=" + url.QueryEscape(l.say["misplaced"]) + "&state=" + url.QueryEscape(l.say["misplaced"])} {
			l.visitAs(t, who, l.url(appHost, target), "")
		}
		l.visitAs(t, who, callback, "")
		l.visitAs(t, who, l.url(appHost, "/members/x"), "Bearer "+l.say["application's token"])
		l.visitAs(t, who, l.url(appHost, "/members/x"), "Basic "+l.say["application's token"])
	}
	for _, r := range l.dump.take() {
		l.hay.add("what the application received", fmt.Append(nil, r.Head, string(r.Body), r.Trailers))
	}
}

// visitAs sends one request of a browser; what is told to it is searched too.
func (l *leak) visitAs(t *testing.T, who *session, rawURL, authorization string) {
	t.Helper()
	req := navigation(t, http.MethodGet, rawURL, "")
	if who != nil {
		req.Header.Set("Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	l.hay.add("pages", []byte(newBrowser(t).do(t, req).Body))
}

// driveCommands runs the commands, rightly, wrongly, and with a secret where none belongs.
func (l *leak) driveCommands(t *testing.T) {
	t.Helper()
	file, socket := filepath.Join(l.dir, "Caddyfile"), l.adminSocket()
	records := filepath.Join(l.dir, "records")
	write(t, records, l.say["misplaced"]+"\n")
	config := []string{"--config", file, "--adapter", "caddyfile"}
	admin := []string{"--address", socket}
	recovery, out := filepath.Join(l.dir, "recovery.key"), filepath.Join(l.dir, "ring.export")
	public := strings.TrimPrefix(l.names["$RECOVERY_LINE"], "recovery ")
	for _, c := range []struct {
		code  int // wanted; -1: any
		line  string
		flags []string
	}{
		{0, "adapt --pretty", config}, {0, "validate", config}, {0, "doctor", config}, {0, "doctor --json", config}, {0, "explain --json", config},
		{0, "sessions list", admin}, {0, "sessions list --json", admin}, {0, "keys list --json", admin}, {0, "keys status", admin}, {0, "keys status --json", admin},
		{0, "keys ring status", admin}, {0, "keys ring status --json", admin}, {0, "keys ring export --to " + public + " --out " + out, admin},
		{-1, "keys ring import --key " + recovery + " " + out, admin}, {0, "keys ring import-original --key " + l.names["$KEY"], admin},
		{-1, "keys ring import-original --effective " + recovery, admin}, {-1, "keys ring import --key " + l.names["$KEY"] + " " + out, admin},
		{-1, "keys ring recover --key " + recovery + " --cert-key " + l.names["$KEY"] + " --store " + filepath.Join(l.dir, "absent"), nil},
		{-1, "keys ring recover --key " + l.names["$KEY"] + " --cert-key " + recovery, nil},
		{-1, "keys ring census " + records, admin}, {-1, "keys ring upgrade " + records, admin}, {-1, "keys ring census " + recovery, admin},
		{0, "keys ring rewrap", admin}, {0, "keys ring rotate --in 0s", admin}, {-1, "keys ring retire p1", admin}, {-1, "keys ring close p1", admin}, {-1, "keys ring destroy p1", admin},
		{0, "keys rotate", admin}, {-1, "keys rotate data", admin}, {-1, "keys rotate master", admin}, {-1, "keys migrate --dry-run", admin}, {-1, "keys compromised passwords/p1 --yes", admin},
		{-1, "keys report", admin}, {-1, "keys report --list", admin}, {-1, "keys report --html " + filepath.Join(l.dir, "report.html"), admin},
		{-1, "review list --json", admin}, {-1, "policy matrix --json", config}, {-1, "keys nothing", nil},
	} {
		res := l.tool(t, append(strings.Fields(c.line), c.flags...)...)
		if c.code >= 0 && res.code != c.code {
			t.Errorf("%s: %d\n%s%s", c.line, res.code, res.stdout, res.stderr)
		}
	}
	for _, path := range []string{"/config/", "/metrics", "/reverse_proxy/upstreams", "/pki/ca/local", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
		"/anteroom/health", "/anteroom/sessions", "/anteroom/keys", "/anteroom/keys/status", "/anteroom/keys/operation", "/anteroom/keys/reports", "/anteroom/keys/report", "/anteroom/rings", "/anteroom/reviews"} {
		l.adminAsk(t, http.MethodGet, path, "")
	}
}

// misplace gives a secret where something else is wanted: to commands, to the admin API, in a configuration.
func (l *leak) misplace(t *testing.T, admin []string) {
	t.Helper()
	for _, secret := range []string{l.say["recovery"], l.say["hmac token"]} {
		for _, line := range []string{
			"keys ring export --to %s --out " + filepath.Join(l.dir, "never"), "keys ring import --key %s x", "keys ring import --key x %s", "keys ring import-original --key %s", "keys ring import-original --effective %s",
			"keys ring recover --key %s --cert-key x", "keys ring recover --key x --cert-key %s", "keys ring %s", "keys ring status %s", "keys ring retire %s", "keys ring destroy %s", "keys ring census %s", "keys ring rotate --in %s",
			"keys ring status --ring %s", "keys %s", "keys kill %s", "keys compromised %s --yes", "keys rotate %s", "keys report %s", "keys destroy %s --force", "keys migrate %s", "sessions end %s", "doctor %s", "explain --roles %s",
		} {
			if secret != l.say["recovery"] {
				break // a token could be the name of anything: the command may say that there is nothing of that name
			}
			args := strings.Fields(fmt.Sprintf(line, secret))
			if !strings.Contains(line, "recover ") && !strings.HasPrefix(line, "doctor") && !strings.HasPrefix(line, "explain") {
				args = append(args, admin...)
			}
			l.tool(t, args...)
		}
		body := mustJSON(object("ring", secret, "id", secret, "to", secret, "key", secret, "effective", secret, "in", secret, "records", []string{secret}, "verb", secret, "target", secret))
		for _, path := range []string{"rings/rotate", "rings/retire", "rings/close", "rings/destroy", "rings/rewrap", "rings/export", "rings/import", "rings/import-original", "rings/census", "rings/upgrade",
			"keys/kill", "keys/begin", "keys/compromised", "keys/destroy", "sessions/end", "sessions/end-user", "reviews/accept"} {
			l.adminAsk(t, http.MethodPost, "/anteroom/"+path, body)
			for _, name := range []string{"id", "to", "key", "effective", "in"} {
				l.adminAsk(t, http.MethodPost, "/anteroom/"+path, mustJSON(object("ring", "passwords", name, secret)))
			}
			l.adminAsk(t, http.MethodPost, "/anteroom/"+path, mustJSON(secret))
		}
	}
	right := leakConfig
	for _, change := range [][2]string{
		{"$RECOVERY_LINE", "recovery " + l.say["recovery"]}, {"token_file $DIR/hmac.token", "token_file " + l.say["hmac token"]}, {"ring passwords", "ring " + l.say["recovery"]}, {"compat", l.say["recovery"]},
		{"token_file $DIR/envelope.token", "token_file " + l.say["envelope token"]}, {"token_file $DIR/envelope.token", "client_certificate " + l.say["envelope token"]},
		{"token_file $DIR/envelope.token", "token_file $DIR/envelope.token\n\t\tpeer uid " + l.say["envelope token"]},
	} {
		wrong := strings.Replace(right, change[0], change[1], 1)
		if wrong == right {
			t.Fatalf("%q is not in the configuration", change[0])
		}
		for _, sub := range []string{"adapt", "validate"} {
			res := l.validate(t, sub, wrong)
			l.hay.add(sub+" with a secret in the place of "+change[0], []byte(res.stdout+"\n"+res.stderr))
		}
		res := l.reload(t, wrong)
		l.hay.add("reload with a secret in the place of "+change[0], []byte(res.stdout+"\n"+res.stderr))
	}
	l.credentials(t)
	for _, name := range []string{"Caddyfile", "Caddyfile.checked"} { // which say what we wrote into them
		if err := os.Remove(filepath.Join(l.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l.configure(t, right)
}

// credentials gives addresses with a password in them, right ones and broken ones, by the environment.
func (l *leak) credentials(t *testing.T) {
	t.Helper()
	password := random62(40)
	l.secrets.plant(t, "password in an address", []byte(password))
	master, failed := l.names["$MASTER"], 0
	defer func() { l.names["$MASTER"] = master }()
	for i, address := range []string{"http://kms:" + password + "@127.0.0.1:9", "http://kms:" + password + "@127.0.0.1:9%zz", "kms:" + password + "@127.0.0.1", "http://kms:" + password + "@127.0.0.1:port"} {
		name := fmt.Sprint("LEAK_ADDRESS_", i)
		l.environment = append(l.environment, name+"="+address, name+"R="+strings.Replace(address, "http://", "redis://", 1))
		for _, line := range []string{"proxy {env." + name + "}\n}", "endpoint {env." + name + "}\n}", "cache 2s\n}\nstore redis {env." + name + "R}"} {
			l.names["$MASTER"] = strings.Replace(master, "cache 2s\n}", line, 1)
			if strings.Contains(line, "endpoint") {
				l.names["$MASTER"] = strings.Replace(l.names["$MASTER"], "endpoint http", "region eu-central-1 # http", 1)
			}
			for _, sub := range []string{"validate", "doctor"} {
				res := l.validate(t, sub, leakConfig)
				if res.code != 0 {
					failed++
				}
				l.hay.add(sub+" with a password in an address", []byte(res.stdout+"\n"+res.stderr))
			}
		}
	}
	if failed < 12 {
		t.Errorf("only %d of 24 commands had something to say of an address", failed)
	}
}

// adminAsk asks the admin API whatever it is, and keeps the answer.
func (l *leak) adminAsk(t testing.TB, method, path, body string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.dir, "admin.sock"))
	}}}
	req, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		t.Errorf("%s %.40s: %.80v", method, path, err)
		return
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%s %.40s: %v", method, path, err)
	}
	l.hay.add("the admin API at "+pathName(path), answer)
}

// pathName names a path of the admin API by what is no secret of it.
func pathName(path string) string {
	for _, part := range strings.Split(path, "/") {
		if len(part) > 30 {
			return "a path that is none"
		}
	}
	return path
}

// driveKMS asks while KMS fails in each way.
func (l *leak) driveKMS(t *testing.T, fake *kmstest.Fake) {
	t.Helper()
	plain := mustJSON(batch("purpose", "notes", "id", "1", "plaintext", "eA=="))
	refused := 0
	for _, fault := range []kmstest.Fault{kmstest.Signature, kmstest.Denied, kmstest.Expired, kmstest.Down, kmstest.Broken, kmstest.NotKMS, kmstest.Nonsense} {
		fake.Fail(fault)
		if fault == kmstest.Signature {
			time.Sleep(2500 * time.Millisecond) // the data keys' time in memory
		}
		for range 2 {
			if strings.Contains(string(l.ask(t, 0, "POST", "/envelope-service/v1/seal", "Bearer "+l.say["envelope token"], "application/json", []byte(plain))), "problem") {
				refused++
			}
		}
		l.hmac(t, 0, "status", object())
		if fault == kmstest.Signature || fault == kmstest.Down {
			for _, line := range []string{"doctor", "validate"} {
				l.tool(t, line, "--config", filepath.Join(l.dir, "Caddyfile"), "--adapter", "caddyfile")
			}
			for _, line := range []string{"status", "ring rewrap"} {
				l.tool(t, append(append([]string{"keys"}, strings.Fields(line)...), "--address", l.adminSocket())...)
			}
			l.adminAsk(t, http.MethodPost, "/anteroom/keys/begin", `{"verb":"rotate-data"}`) // which waits for KMS
			l.adminAsk(t, http.MethodGet, "/anteroom/keys/operation", "")
		}
	}
	if refused < 4 {
		t.Errorf("without KMS only %d requests were refused: nothing failed", refused)
	}
	fake.Fail(kmstest.None)
}

// driveLocked: the TLS key is swapped while the program is down, the ring is locked, and the recovery key opens it.
func (l *leak) driveLocked(t *testing.T) {
	t.Helper()
	master, err := os.ReadFile(filepath.Join(l.dataDir(), "anteroom", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	l.plantMaster(t, master)
	l.hay.add("the log", []byte(l.proc.log()))
	l.collect(t)
	l.proc.stop(t)
	ca().issue(t, l.dir, "site", nil, siteNames...)
	l.plantKey(t)
	l.plantSeeds(t)
	l.run(t)
	// A data key is compromised, too: what follows interrupts the operation, and its report is searched.
	l.adminAsk(t, http.MethodPost, "/anteroom/keys/compromised", mustJSON(object("id", l.keyState(t).primary(t).ID)))
	l.hmac(t, 503, "protect", object("items", []any{object("uid", l.say["uid's secret"], "secret", l.say["password"])}))
	l.ask(t, 503, "GET", "/hmac-service?"+url.QueryEscape(l.say["password"])+"&3", "", "", nil)
	for _, line := range []string{"status", "ring status", "ring rotate", "ring rewrap"} {
		l.tool(t, append(append([]string{"keys"}, strings.Fields(line)...), "--address", l.adminSocket())...)
	}
	l.hay.add("the log", []byte(l.proc.log()))
	l.collect(t)
	l.proc.stop(t)
	if res := l.tool(t, "keys", "ring", "recover", "--key", filepath.Join(l.dir, "recovery.key"), "--cert-key", l.names["$KEY"]); res.code != 0 {
		t.Errorf("recover: %s%s", res.stdout, res.stderr)
	}
	l.run(t)
	l.hmac(t, 200, "protect", object("items", []any{object("uid", l.say["uid's secret"], "secret", l.say["password"])}))
	eventually(t, 3*time.Minute, func() error {
		if op := l.operation(); op == nil || op.State != rekey.StateDone {
			return fmt.Errorf("the operation is not done: %+v", op)
		}
		return nil
	})
	for _, more := range [][]string{nil, {"--list"}, {"--html", filepath.Join(l.dir, "report.html")}} {
		if res := l.tool(t, append([]string{"keys", "report", "--address", l.adminSocket()}, more...)...); res.code != 0 || res.stdout == "" {
			t.Errorf("keys report %v: %s%s", more, res.stdout, res.stderr)
		}
	}
	l.tool(t, "keys", "status", "--address", l.adminSocket())
}

// collect asks for what is gone when the process is: what the application got, metrics and the configuration.
func (l *leak) collect(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/config/", "/metrics", "/anteroom/rings", "/anteroom/keys/status"} {
		l.adminAsk(t, http.MethodGet, path, "")
	}
	for _, r := range l.dump.take() {
		l.hay.add("what the application received", fmt.Append(nil, r.Head, string(r.Body), r.Trailers))
	}
}

// finish ends the program the way that leaves most behind: with a dump of all its goroutines.
func (l *leak) finish(t *testing.T) {
	t.Helper()
	l.collect(t)
	eventually(t, patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !strings.Contains(l.spans.String(), "app") {
			return fmt.Errorf("no span came in %d bytes", l.spans.Len())
		}
		return nil
	})
	l.proc.signal(syscall.SIGABRT)
	select {
	case <-l.proc.done:
	case <-time.After(patience):
		t.Error("it does not end")
	}
	l.hay.add("the log", []byte(l.proc.log()))
	if !strings.Contains(l.proc.log(), "goroutine 1 ") {
		t.Error("the crash left no dump: nothing of it was searched")
	}
	l.mu.Lock()
	l.hay.add("the traces", l.spans.Bytes())
	l.mu.Unlock()
	l.hay.folder(t, l.dir)
}

// judge searches, and shows that the search finds.
func (l *leak) judge(t *testing.T) {
	t.Helper()
	for place, least := range map[string]int{"the log": 1 << 16, "the traces": 1000, "what the application received": 1000, "the admin API at /config/": 1000, "the admin API at /metrics": 1000, "the admin API at /anteroom/rings": 100, "answers of the services": 10_000, "pages": 1000,
		"file " + filepath.Join(l.dir, "access.log"): 500, "file " + filepath.Join(l.dataDir(), "anteroom", "store.db"): 10_000} {
		if len(l.hay[place]) < least {
			t.Errorf("%s has %d bytes: nothing was searched", place, len(l.hay[place]))
		}
	}
	size := 0
	for _, text := range l.hay {
		size += len(text)
	}
	began := time.Now()
	for _, line := range l.secrets.in(l.hay) {
		t.Error(line)
	}
	t.Logf("%d secrets, %d pieces of them, %d places, %d KiB, searched in %v", len(l.secrets.places), len(l.secrets.owner), len(l.hay), size>>10, time.Since(began).Round(time.Millisecond))
	t.Run("bites", func(t *testing.T) { l.bites(t) })
}

// control asks for an address with a word that may be told: where it does not come out at the end, nothing was recorded.
func (l *leak) control(t *testing.T, b *browser) {
	t.Helper()
	if l.say["control"] == "" {
		l.say["control"] = random62(40)
	}
	b.do(t, navigation(t, http.MethodGet, l.url(appHost, "/public/"+l.say["control"]), ""))
	l.ask(t, 200, http.MethodGet, "/"+l.say["control"], "", "", nil)
}

// bites shows that the search finds: a word that the program may tell, where it told it; and each secret, in each spelling, put
// into each of the places.
func (l *leak) bites(t *testing.T) {
	told := newNeedles()
	told.plant(t, "control", []byte(l.say["control"]))
	found := strings.Join(told.in(l.hay), "\n")
	for _, place := range []string{"the log", "the traces", "what the application received", "file " + filepath.Join(l.dir, "access.log")} {
		if !strings.Contains(found, "control stands in "+place+" at") {
			t.Errorf("what the program tells is not found in %s", place)
		}
	}
	var names []string
	for name := range l.secrets.places {
		names = append(names, name)
	}
	turn := 0
	for place, text := range l.hay {
		for _, name := range names {
			turn++
			forms := spellings(l.secrets.originals[name])
			form := forms[turn%len(forms)]
			spoilt := append(append(bytes.Clone(text[len(text)-min(len(text), 500):]), form...), text[:min(len(text), 500)]...)
			allowed := slices.ContainsFunc(l.secrets.places[name], func(end string) bool { return strings.HasSuffix(place, end) })
			// Two secrets may share a piece of their numbers: it is then found as the other one's.
			own := func(line string) bool { return strings.HasPrefix(line, name+" stands") }
			if got := l.secrets.in(haystack{place: spoilt}); allowed && slices.ContainsFunc(got, own) || !allowed && len(got) == 0 {
				t.Fatalf("%s, put into %s as %.40q: found %q", name, place, form, got)
			}
		}
	}
	// A control of the list of places: the file with a secret has it, and it is found there when it may not be.
	l.secrets.places["client secret"] = nil
	if got := l.secrets.in(haystack{"oidc.secret": l.hay["file "+filepath.Join(l.dir, "oidc.secret")]}); len(got) != 1 {
		t.Errorf("the file with the client secret: found %q", got)
	}
}

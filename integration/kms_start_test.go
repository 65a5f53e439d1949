package integration

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// kmsStartConfig has, beside the gated sites, one that needs no key and the two services for applications.
var kmsStartConfig = kmsConfig + `
third.test:$PORT {
	tls $CERT $KEY
	respond "needs no key"
}

localhost:$PORT {
	tls $CERT $KEY
	hmac_service {
		token_file $DIR/hmac.token
	}
	envelope_service {
		token_file $DIR/envelope.token
		tenant clinic
	}
}
`

func kmsStart(t *testing.T, master string) *rig {
	t.Helper()
	r := prepare(t, kmsStartConfig, "MASTER", master)
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken+"\n")
	write(t, filepath.Join(r.dir, "envelope.token"), envelopeToken+"\n")
	return r
}

// runWithout starts the program and waits for the site that needs no key.
func (r *rig) runWithout(t *testing.T) {
	t.Helper()
	r.gated = false
	r.run(t)
	r.gated = true
	r.proc.waitFor(t, patience, func() error {
		if got := r.status(t, "third.test", "/", nil); got != http.StatusOK {
			return fmt.Errorf("the site that needs no key is answered %d", got)
		}
		return nil
	})
}

// health asks the admin API.
func (r *rig) health(t *testing.T) (code int, report struct{ Status, Detail string }) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "admin.sock"))
		},
	}}
	res, err := client.Get("http://localhost/anteroom/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if err := json.Unmarshal(body, &report); err != nil {
		t.Fatalf("health: %s", body)
	}
	return res.StatusCode, report
}

func (r *rig) sealValue(t *testing.T, text string) (sealed, status string) {
	t.Helper()
	status, body := r.envelope(t, "seal", batch("purpose", "notes", "id", "p1", "plaintext", base64.StdEncoding.EncodeToString([]byte(text))))
	var answer struct{ Items []struct{ Sealed string } }
	if err := json.Unmarshal([]byte(body), &answer); err == nil && len(answer.Items) == 1 {
		sealed = answer.Items[0].Sealed
	}
	return sealed, status
}

// away is what everybody sees while KMS is away since before the start.
func (r *rig) away(t *testing.T, who *session) {
	t.Helper()
	for range 2 {
		if got := r.status(t, "third.test", "/", nil); got != http.StatusOK {
			t.Errorf("the site that needs no key is answered %d", got)
		}
		b := newBrowser(t)
		for _, req := range []*http.Request{call(t, "GET", r.url(appHost, "/members/x"), ""), navigation(t, "GET", r.url(appHost, "/public/x"), "")} {
			if who != nil {
				req.Header.Set("Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
			}
			if p := b.do(t, req); p.Status != http.StatusServiceUnavailable || p.Header.Get("Retry-After") == "" || strings.Contains(p.Body, "arn:") {
				t.Errorf("%s is answered %d %v %s", req.URL, p.Status, p.Header, p.Body)
			}
		}
		if got := r.loginStatus(t); got != http.StatusServiceUnavailable {
			t.Errorf("a sign-in begins with %d", got)
		}
		if sealed, status := r.sealValue(t, "x"); status != "503" || sealed != "" {
			t.Errorf("sealing is answered %s", status)
		}
	}
	if code, report := r.health(t); code != http.StatusServiceUnavailable || report.Status != "master-away" || !strings.Contains(report.Detail, "AWS KMS") {
		t.Errorf("health: %d %+v", code, report)
	}
	if exists(filepath.Join(r.dataDir(), "anteroom", "master.key")) {
		t.Error("a key file was made in the place of the key in KMS")
	}
	if !strings.Contains(r.proc.log(), "the master key cannot be reached") {
		t.Error("the log does not say it")
	}
}

func (r *rig) healed(t *testing.T) {
	t.Helper()
	eventually(t, 2*patience, func() error {
		if got := r.loginStatus(t); got != http.StatusFound {
			return fmt.Errorf("KMS is back and a sign-in begins with %d", got)
		}
		if code, report := r.health(t); code != http.StatusOK {
			return fmt.Errorf("KMS is back and health says %+v", report)
		}
		if _, status := r.sealValue(t, "x"); status != "200" {
			return fmt.Errorf("KMS is back and sealing is answered %s", status)
		}
		return nil
	})
}

// TestRow157StartWithoutKMS: a start while KMS is away takes no site down that needs no key. All that needs one answers 503, and
// begins when KMS is back, without a restart, with the keys that were there; nothing else takes their place.
func TestRow157StartWithoutKMS(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		awsEnvironment(t)
		fake, double := fakeKMS(t)
		startWithoutKMS(t, double, double.lines(), func(r *rig) {
			// The ring of passwords opens by its TLS key, and needs no KMS.
			if record := r.protect(t, "dana", "s3cret"); !r.verify(t, "dana", "s3cret", record) {
				t.Error("without KMS a password does not verify")
			}
		})
		if n := len(fake.Plain()); n > 2*2 {
			t.Errorf("%d data keys were made for two rings", n)
		}
	})
	t.Run("alias", func(t *testing.T) { // which key it names cannot be known before KMS answers
		awsEnvironment(t)
		_, double := fakeKMS(t)
		startWithoutKMS(t, double, strings.Replace(double.lines(), double.key+" {", kmstest.AliasName+" {\n region "+kmstest.Region, 1), func(*rig) {})
	})
	t.Run("redis", func(t *testing.T) { // where everything lies sealed, so that the store itself waits
		awsEnvironment(t)
		_, double := fakeKMS(t)
		startWithoutKMS(t, double, double.lines()+"\n\t\tstore redis "+redistest.Standalone(t).URL(), func(*rig) {})
	})
	t.Run("moto", func(t *testing.T) { // which takes requests and answers none
		awsEnvironment(t)
		moto := kmstest.StartMoto(t)
		double := kmsDouble{moto.Key(), moto.URL, moto.Freeze, moto.Thaw}
		startWithoutKMS(t, double, double.lines(), func(*rig) {})
	})
}

func startWithoutKMS(t *testing.T, kms kmsDouble, lines string, passwords func(*rig)) {
	t.Helper()
	r := kmsStart(t, lines)
	kms.cut()
	r.runWithout(t) // the very first start
	passwords(r)
	r.away(t, nil)
	if res := r.reload(t, kmsStartConfig); res.code != 0 { // what waits is replaced by what waits
		t.Errorf("a reload while it waits: %d %s", res.code, res.stderr)
	}
	r.away(t, nil)
	kms.heal()
	r.healed(t)
	dana := r.person(t, appHost, "dana")
	value, status := r.sealValue(t, "a finding")
	if status != "200" {
		t.Fatalf("sealing is answered %s", status)
	}
	kms.cut()
	time.Sleep(2500 * time.Millisecond) // the data keys' time in memory
	if res := r.reload(t, kmsStartConfig); res.code != 0 {
		t.Errorf("a reload while KMS is away: %d %s", res.code, res.stderr)
	}
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Errorf("after it a session is answered %d", got)
	}
	other := strings.Replace(kmsStartConfig, "$MASTER", "$MASTER\n\t\tsession {\n\t\t\tidle 10m\n\t\t}", 1)
	if res := r.reload(t, other); res.code == 0 { // would need the signing keys opened anew
		t.Logf("a reload with other lifetimes loads while KMS is away")
	}
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Errorf("after a reload that was refused a session is answered %d", got)
	}
	r.configure(t, kmsStartConfig)
	r.proc.kill()
	r.runWithout(t)
	passwords(r)
	r.away(t, dana)
	kms.heal()
	r.healed(t)
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Errorf("KMS is back and the session is answered %d", got)
	}
	if status, body := r.envelope(t, "open", batch("purpose", "notes", "id", "p1", "sealed", value)); status != "200" || !strings.Contains(body, "plaintext") {
		t.Errorf("KMS is back and what was sealed is answered %s %s", status, body)
	}
	kms.cut()
	r.proc.kill()
	r.runWithout(t)
	r.proc.stop(t) // what waits can be stopped
	kms.heal()
}

// TestRow157StartRefused: what no waiting mends does not start, at the very first start neither, and leaves no key and no ring.
func TestRow157StartRefused(t *testing.T) {
	awsEnvironment(t)
	fake, double := fakeKMS(t)
	r := kmsStart(t, double.lines())
	for name, test := range map[string]struct {
		fault func()
		want  string
	}{
		"denied":   {func() { fake.Fail(kmstest.Denied) }, "may not do this"},
		"expired":  {func() { fake.Fail(kmstest.Expired) }, "renew them"},
		"disabled": {func() { fake.Set(fake.Key(), kmstest.Disabled) }, "aws kms enable-key"},
		"deleted":  {func() { fake.Set(fake.Key(), kmstest.Deleted) }, "there is no such key"},
	} {
		test.fault()
		refuses(t, r, name, test.want)
		fake.Fail(kmstest.None)
		fake.Set(fake.Key(), kmstest.Enabled)
		if exists(filepath.Join(r.dataDir(), "anteroom", "master.key")) {
			t.Errorf("%s: a key file was made", name)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dataDir(), "anteroom", "ring.mark")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a ring was made: %v", err)
	}
}

func refuses(t *testing.T, r *rig, name, want string) {
	t.Helper()
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "anteroom-"+name, r.env(), binary(t, "anteroom"), "run", "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile")
	select {
	case <-p.done:
	case <-time.After(2 * patience):
		t.Fatalf("%s: it starts", name)
	}
	if !strings.Contains(p.log(), want) {
		t.Errorf("%s: the message lacks %q:\n%s", name, want, p.tail())
	}
}

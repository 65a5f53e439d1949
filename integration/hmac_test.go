package integration

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const hmacToken = "integration-hmac-token-0123456789abcdef"

// hmacConfig is a site that has nothing but the service; $CERT and $KEY are for localhost too.
const hmacConfig = `{` + globals + `
}

localhost:$PORT {
	tls $CERT $KEY
	hmac_service {
		token_file $DIR/hmac.token
		recovery $RECOVERY
		compat
	}
}
`

// newHMAC starts bin/anteroom with the service and a recovery key made by its own command.
func newHMAC(t testing.TB, config string, pairs ...string) *rig {
	t.Helper()
	r := prepare(t, "", pairs...)
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken+"\n")
	made := output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "recovery-key", "--out", filepath.Join(r.dir, "recovery.key"))
	if made.code != 0 {
		t.Fatalf("making a recovery key: %+v", made)
	}
	r.names["$RECOVERY"] = strings.TrimSpace(made.stdout)
	r.configure(t, config)
	r.run(t)
	return r
}

// curl calls as an application on the same host does.
func (r *rig) curl(t testing.TB, args ...string) (status, body string) {
	t.Helper()
	root := filepath.Join(r.dir, "ca.pem")
	write(t, root, string(ca().pem))
	argv := append([]string{"curl", "-sS", "--http1.1", "--cacert", root, "-w", "\n%{http_code}", "-m", "60"}, args...)
	res := output(t, nil, argv...)
	i := strings.LastIndexByte(res.stdout, '\n')
	if i < 0 {
		return "", res.stderr
	}
	return res.stdout[i+1:], res.stdout[:i]
}

func (r *rig) hmacURL(path string) string { return fmt.Sprintf("https://localhost:%d%s", r.port, path) }

// asReady asks the service, again for as long as it says that it is not ready: a ring is ready a moment after the site.
func (r *rig) asReady(t testing.TB, op string, question any) (status, body string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		status, body = r.curl(t, "-H", "Authorization: Bearer "+hmacToken, "-H", "Content-Type: application/json",
			"--data-binary", mustJSON(question), r.hmacURL("/hmac-service/v1/"+op))
		if status != "503" || time.Now().After(deadline) {
			return status, body
		}
	}
}

// protect makes a record; verify checks one.
func (r *rig) protect(t testing.TB, uid, secret string) string {
	t.Helper()
	status, body := r.asReady(t, "protect", map[string]any{"items": []any{map[string]string{"uid": uid, "secret": secret}}})
	var answer struct{ Items []struct{ Record string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != "200" || len(answer.Items) != 1 {
		t.Fatalf("protect: %s %s", status, body)
	}
	return answer.Items[0].Record
}

func (r *rig) verify(t testing.TB, uid, secret, record string) bool {
	t.Helper()
	status, body := r.asReady(t, "verify", map[string]string{"uid": uid, "secret": secret, "record": record})
	var answer struct{ Match *bool }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != "200" || answer.Match == nil {
		t.Fatalf("verify: %s %s", status, body)
	}
	return *answer.Match
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestHMACService: what an application on the same host gets.
func TestHMACService(t *testing.T) {
	const secret = "correct horse battery staple"
	r := newHMAC(t, hmacConfig)
	record := r.protect(t, "p1001", secret)
	if !strings.HasPrefix(record, "$anteroom$v=1,ring=") || strings.Contains(record, secret) {
		t.Errorf("the record is %q", record)
	}
	if r.protect(t, "p1001", secret) == record {
		t.Error("two records of one secret are equal: no salt")
	}
	for _, test := range []struct {
		uid, secret string
		want        bool
	}{{"p1001", secret, true}, {"p1001", secret + "x", false}, {"p1002", secret, false}} {
		if got := r.verify(t, test.uid, test.secret, record); got != test.want {
			t.Errorf("verify %s %q: %v, want %v", test.uid, test.secret, got, test.want)
		}
	}
	good := mustJSON(map[string]any{"items": []any{map[string]string{"uid": "u", "secret": secret}}})
	protect := r.hmacURL("/hmac-service/v1/protect")
	bearer, asJSON := "Authorization: Bearer "+hmacToken, "Content-Type: application/json"
	large := filepath.Join(r.dir, "large")
	write(t, large, strings.Repeat(" ", 5<<20))
	for id, test := range map[string]struct {
		want string
		args []string
	}{
		"no credential":     {"401", []string{"-H", asJSON, "-d", good, protect}},
		"wrong credential":  {"401", []string{"-H", "Authorization: Bearer " + hmacToken + "x", "-H", asJSON, "-d", good, protect}},
		"basic credential":  {"401", []string{"-u", "x:" + hmacToken, "-H", asJSON, "-d", good, protect}},
		"not JSON":          {"415", []string{"-H", bearer, "-H", "Content-Type: text/html", "-d", good, protect}},
		"broken JSON":       {"400", []string{"-H", bearer, "-H", asJSON, "-d", "{", protect}},
		"unknown member":    {"400", []string{"-H", bearer, "-H", asJSON, "-d", `{"items":[],"x":1}`, protect}},
		"too large":         {"413", []string{"-H", bearer, "-H", asJSON, "-H", "Expect:", "--data-binary", "@" + large, protect}},
		"unknown operation": {"404", []string{"-H", bearer, "-H", asJSON, "-d", good, r.hmacURL("/hmac-service/v1/nothing")}},
		"any other path":    {"404", []string{r.hmacURL("/")}},
		"near miss":         {"404", []string{r.hmacURL("/hmac-servicex")}},
		"foreign record":    {"400", []string{"-H", bearer, "-H", asJSON, "-d", mustJSON(map[string]string{"uid": "u", "secret": "s", "record": "$x$"}), r.hmacURL("/hmac-service/v1/verify")}},
		"Via":               {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Via: 1.1 proxy", "-d", good, protect}},
		"X-Forwarded-For":   {"404", []string{"-H", bearer, "-H", asJSON, "-H", "X-Forwarded-For: 127.0.0.1", "-d", good, protect}},
		"Forwarded":         {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Forwarded: for=127.0.0.1", "-d", good, protect}},
		"X-Real-IP":         {"404", []string{"-H", bearer, "-H", asJSON, "-H", "X-Real-IP: 127.0.0.1", "-d", good, protect}},
		"Origin":            {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Origin: https://localhost", "-d", good, protect}},
		"Referer":           {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Referer: https://localhost/", "-d", good, protect}},
		"Cookie":            {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Cookie: a=b", "-d", good, protect}},
		"Sec-Fetch-Site":    {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Sec-Fetch-Site: none", "-d", good, protect}},
		"from 127.0.0.6":    {"404", []string{"--interface", "127.0.0.6", "-H", bearer, "-H", asJSON, "-d", good, protect}},
		"another Host":      {"421", []string{"-H", bearer, "-H", asJSON, "-H", "Host: app.test", "-d", good, protect}},
	} {
		t.Run(id, func(t *testing.T) {
			status, body := r.curl(t, test.args...)
			if status != test.want && !(id == "another Host" && status == "404") {
				t.Errorf("answered %s, want %s: %s", status, test.want, body)
			}
			if strings.Contains(body, secret) || strings.Contains(body, hmacToken) {
				t.Errorf("the answer repeats a secret: %s", body)
			}
		})
	}
	t.Run("nothing of it is written down", func(t *testing.T) {
		r.curl(t, r.hmacURL("/hmac-service?"+url.QueryEscape(secret)+"&3"))
		for _, word := range []string{secret, url.QueryEscape(secret), strings.ReplaceAll(secret, " ", "%20"), hmacToken} {
			if where := r.grep(t, word, "hmac.token", "Caddyfile"); where != "" {
				t.Errorf("%q stands in %s", word, where)
			}
		}
	})
}

// grep looks for a text in everything that bin/anteroom wrote: its log, its data, its audit log. It returns the first place.
func (r *rig) grep(t testing.TB, word string, except ...string) string {
	t.Helper()
	if strings.Contains(r.proc.log(), word) {
		return r.proc.logPath
	}
	found := ""
	err := filepath.WalkDir(r.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		for _, name := range except {
			if entry.Name() == name {
				return nil
			}
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), word) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

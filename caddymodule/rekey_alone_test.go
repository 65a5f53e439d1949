package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/caddyserver/caddy/v2"
)

// keyRig asks a running config for operations on keys, over the admin interface.
type keyRig struct {
	bench
	t      *testing.T
	listen string
	c      *http.Client
	config []byte
}

// newKeyRig loads a Caddyfile with an admin interface on a socket.
func newKeyRig(t *testing.T, b bench, file string) keyRig {
	t.Helper()
	config, err := adapt(t, file)
	if err != nil {
		t.Fatal(err)
	}
	r := keyRig{bench: b, t: t, listen: rig{bench: b}.adminSocket()}
	t.Cleanup(func() {
		quiet := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`
		if err := caddy.Load([]byte(quiet), true); err != nil {
			t.Error(err)
		}
	})
	r.config = withAdmin(t, config, r.listen)
	run(t, r.config)
	r.c = adminClient(t, r.listen)
	r.c.Transport.(*http.Transport).DisableKeepAlives = true // a reload closes connections that were kept
	return r
}

// ask sends one order and reads its answer; a body makes it a POST.
func (r keyRig) ask(path, body string, into any) (status int, text string) {
	r.t.Helper()
	res, text := askAdmin(r.t, r.c, "127.0.0.1", "/anteroom/keys/"+path, body)
	if res.StatusCode == http.StatusOK && into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			r.t.Fatalf("%s: %v", path, err)
		}
	}
	return res.StatusCode, text
}

// status is keys/status, which must answer.
func (r keyRig) status() keyStatus {
	r.t.Helper()
	var s keyStatus
	if status, text := r.ask("status", "", &s); status != http.StatusOK {
		r.t.Fatalf("status: %d %s", status, text)
	}
	return s
}

// done begins an operation and waits for its end; meanwhile is done after it has begun.
func (r keyRig) done(path, body string, meanwhile ...func()) *rekey.Progress {
	r.t.Helper()
	var answer keyAnswer
	if status, text := r.ask(path, body, &answer); status != http.StatusOK || answer.Operation == nil {
		r.t.Fatalf("%s %s: %d %s", path, body, status, text)
	}
	for _, do := range meanwhile {
		do()
	}
	id := answer.Operation.ID
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var answer keyAnswer
		r.ask("operation?id="+id, "", &answer)
		op := answer.Operation
		switch {
		case op != nil && op.ID == id && op.State == rekey.StateDone:
			return op
		case op != nil && op.State == rekey.StateStopped, time.Now().After(end):
			r.t.Fatalf("%s %s: %+v", path, body, op)
		}
	}
}

func primaryKey(t *testing.T, keys []rekey.Key) string {
	t.Helper()
	for _, k := range keys {
		if k.State == rekey.Primary {
			return k.ID
		}
	}
	t.Fatalf("no primary: %+v", keys)
	return ""
}

func stateOf(keys []rekey.Key, id string) string {
	for _, k := range keys {
		if k.ID == id {
			return k.State
		}
	}
	return ""
}

// Rows 155 and 156: a config with local services alone has keys, and every operation on them, without a line about it.
func TestRow156ServicesAlone(t *testing.T) {
	for name, sites := range map[string]string{
		"hmac_service":     hmacSite,
		"envelope_service": "https://localhost:8444 {\n\tTLS\n\tlog\n" + envelopeBlock + "}\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := newKeyRig(t, b, b.hmacFile(t, "", sites))
			s := r.status()
			own, apps := primaryKey(t, s.Own), primaryKey(t, s.Apps)
			if len(s.Signing) == 0 || (name == "hmac_service") != (len(s.Rings) == 1) {
				t.Errorf("status: %+v", s)
			}
			for _, id := range []string{own, apps, s.Signing[0].KID} {
				var plan keyAnswer
				if status, text := r.ask("compromised", fmt.Sprintf(`{"id":%q,"dry_run":true}`, id), &plan); status != 200 || plan.Plan == nil {
					t.Errorf("dry run of %s: %d %s", id, status, text)
				}
			}
			r.done("begin", `{"verb":"rotate-data"}`)
			r.done("begin", `{"verb":"rotate-master"}`)
			r.done("begin", `{"verb":"migrate"}`)
			if name == "hmac_service" {
				r.done("compromised", `{"id":"ring/p1"}`)
			}
			r.done("compromised", fmt.Sprintf(`{"id":%q}`, own))
			r.done("compromised", fmt.Sprintf(`{"id":%q}`, apps))
			after := r.status()
			if stateOf(after.Own, own) != rekey.Destroyed || stateOf(after.Apps, apps) != rekey.Condemned {
				t.Errorf("after: %+v %+v", after.Own, after.Apps)
			}
			for _, k := range after.Signing {
				if k.KID == s.Signing[0].KID {
					t.Errorf("the signing key %s lives", k.KID)
				}
			}
			var report keyReport
			if status, text := r.ask("report", "", &report); status != 200 || !strings.Contains(report.Report, apps) {
				t.Errorf("report: %d %s", status, text)
			}
		})
	}
}

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// explainAgrees: for 200 random requests, `policy explain` says what the running binary does.
func explainAgrees(t *testing.T, r *rig, people map[string]*session) {
	random := rand.New(rand.NewPCG(5, 200))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	type asked struct{ who, method, target string }
	wants := map[asked]int{}
	for range 200 {
		first := pick("public", "members", "admin", "mail", "names", "staffroom", "inside", "rooms", "patients", "drafts", "Members", "%6Dembers")
		second := pick("x", "r1", "r2", "sealed", "SEALED", "charts", "orders", "tried", "dana", "pat", "dana@hospital.test", "Dana%20Doctor", "a;b", "a%2Fb", "..", "")
		a := asked{pick("", "dana", "pat", "finn", "admin", "zoe"), pick("GET", "GET", "POST", "DELETE", "HEAD"), "/" + first + "/" + second + pick("", "/", "/x", "/1")}
		if _, done := wants[a]; done {
			continue
		}
		extra := []string{"Connection: close", "Accept: application/json"}
		if s := people[a.who]; s != nil {
			extra = append(extra, s.line())
		}
		wants[a] = send(t, r.addr(), appHost, request(a.method, a.target, r.authority(appHost), "", extra...), 1).status()
	}
	r.dump.take()
	var all sync.WaitGroup
	work := make(chan asked)
	outcomes := map[int]int{}
	for range 3 {
		all.Go(func() {
			for a := range work {
				args := append([]string{binary(t, "anteroom"), "policy", "explain", "--json", "-a", "caddyfile", "-c", filepath.Join(r.dir, "Caddyfile"), "--from", "127.0.0.1"},
					describe(t, a.who, people[a.who])...)
				res := output(t, r.env(), append(args, "--", a.method, "https://"+appHost+a.target)...)
				var e struct {
					Allowed      bool
					Reason, Rule string
				}
				if err := json.Unmarshal([]byte(res.stdout), &e); err != nil || res.code != 0 {
					t.Errorf("explain %v: %d %v %s%s", a, res.code, err, res.stdout, res.stderr)
					continue
				}
				said := 403
				switch {
				case e.Allowed:
					said = 200
				case e.Reason == "ambiguous-path":
					said = 400
				case a.who == "" || e.Reason == "step_up" || e.Reason == "step-up":
					said = 401
				}
				if said != wants[a] {
					t.Errorf("%v: explain says %d (%s, %s), the running binary answered %d", a, said, e.Reason, e.Rule, wants[a])
				}
			}
		})
	}
	for a, want := range wants {
		outcomes[want]++
		work <- a
	}
	close(work)
	all.Wait()
	t.Logf("%d different requests: %v", len(wants), outcomes)
	for _, status := range []int{200, 400, 401, 403} {
		if outcomes[status] < 5 {
			t.Errorf("only %d of the requests were answered %d", outcomes[status], status)
		}
	}
}

// describe says who somebody is in the flags of `policy explain`.
func describe(t testing.TB, user string, s *session) []string {
	if s == nil {
		return []string{"--as", "anonymous"}
	}
	claims := tokenClaims(t, s)
	var roles []string
	list, _ := claims["roles"].([]any)
	for _, role := range list {
		roles = append(roles, fmt.Sprint(role))
	}
	args := []string{"--as", strings.Join(roles, ",") + ":" + user, "--idp", "hospital"}
	for _, flag := range []string{"acr", "amr"} {
		switch value := claims[flag].(type) {
		case string:
			args = append(args, "--"+flag, value)
		case []any:
			for _, v := range value {
				args = append(args, "--"+flag, fmt.Sprint(v))
			}
		}
	}
	if user == "dana" || user == "finn" {
		args = append(args, "--group", "staff")
	}
	full := map[string]string{"dana": "Dana Doctor", "pat": "Pat Patient", "finn": "Finn Finance", "admin": "Ada Admin", "zoe": "Zoë Ünïcode"}
	return append(args, "--claim", "full="+full[user])
}

// replayed is what `policy replay` counts.
type replayed struct {
	Requests, Same int
	WouldAllow     int `json:"would_allow"`
	WouldDeny      int `json:"would_deny"`
	CannotTell     int `json:"cannot_tell"`
	Foreign        int
	Bad            int
	Groups         []struct {
		Outcome, Why string
		Count        int
		Examples     []struct{ Who, Method, Path, Rule string }
	}
}

func (r *rig) replay(t testing.TB, caddyfile string) (result replayed) {
	t.Helper()
	path := filepath.Join(r.dir, "Caddyfile.replayed")
	write(t, path, r.expand(caddyfile))
	res := output(t, r.env(), binary(t, "anteroom"), "policy", "replay", filepath.Join(r.dataDir(), "anteroom", "audit"), "-c", path, "-a", "caddyfile", "--json")
	if err := json.Unmarshal([]byte(res.stdout), &result); err != nil || res.code != 0 {
		t.Fatalf("replay: %d %v %s%s", res.code, err, res.stdout, res.stderr)
	}
	return result
}

// replayAgrees decides all that this test asked for once more: by the same rules nothing is different, by others what they change.
func replayAgrees(t *testing.T, r *rig) {
	same := r.replay(t, liveConfig)
	t.Logf("the same rules: %+v", same)
	if same.WouldAllow+same.WouldDeny+same.Foreign+same.Bad > 0 || same.Requests < 100 || same.Same*2 < same.Requests {
		t.Errorf("by the same rules: %+v", same)
	}
	drafts, members := 0, 0
	for _, rec := range r.audit(t) {
		isRequest := rec.str("kind") == "request"
		doctor := strings.Contains(fmt.Sprint(rec["roles"]), "doctor")
		switch {
		case isRequest && rec.str("decision") == "allowed" && strings.HasPrefix(rec.str("rule"), "allow any /members/**") && !strings.Contains(fmt.Sprint(rec["roles"]), "admin"):
			members++
		case isRequest && rec.str("decision") == "denied" && strings.HasPrefix(rec.str("path"), "/drafts") && doctor:
			drafts++
		}
	}
	if members < 5 || drafts < 1 {
		t.Fatalf("%d requests at members, %d at drafts: too few to mean something", members, drafts)
	}
	closed := r.replay(t, strings.Replace(liveConfig, "\t\tallow any /members/**", "\t\tallow role admin /members/**", 1))
	if closed.WouldDeny != members || closed.WouldAllow != 0 {
		t.Errorf("with members closed: %+v, want %d denied", closed, members)
	}
	opened := r.replay(t, strings.Replace(liveConfig, "\t\tshadow allow role doctor", "\t\tallow role doctor", 1))
	if opened.WouldAllow != drafts || opened.WouldDeny != 0 {
		t.Errorf("with drafts opened: %+v, want %d allowed", opened, drafts)
	}
}

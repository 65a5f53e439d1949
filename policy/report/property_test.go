package report

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
)

// maker makes policies and requests of few names, so that they meet.
type maker struct{ *rand.Rand }

func pick[T any](m maker, list ...T) T { return list[m.IntN(len(list))] }

func (m maker) pattern(public bool) string {
	var b strings.Builder
	for range 1 + m.IntN(3) {
		segment := pick(m, "a", "b", "admin", "*", "{id}")
		if !public && m.IntN(5) == 0 {
			segment = pick(m, "{user}", "{claim.lab}")
		}
		if strings.Contains(b.String(), "{id}") && segment == "{id}" {
			segment = "*"
		}
		b.WriteString("/" + segment)
	}
	return b.String() + pick(m, "", "", "/**", "/")
}

func (m maker) condition() string {
	return pick(m, "network 10.0.0.0/8", "network wards", "hours mon-fri 07:00-19:00 Europe/Brussels", "hours 22:00-06:00 UTC",
		"when `request.method == \"GET\"`", "when `user.org == \"lab\"`", "when `request.time.getHours() < 12`")
}

func (m maker) line() string {
	kind := pick(m, "allow", "allow", "allow", "allow", "deny", "deny", "require")
	who := pick(m, "public", "any", "role doctor", "role nurse", "role doctor,nurse", "user ann", "role nurse group ward", "idp lab")
	if kind == "require" {
		who = pick(m, "acr mfa", "amr otp", "max_age 5m", "device known", "network 10.0.0.0/8")
	}
	words := []string{kind, who, pick(m, "", "GET", "POST", "GET,POST"), m.pattern(who == "public")}
	if kind != "require" && m.IntN(4) == 0 {
		words = append(words, m.condition())
	} else if kind == "allow" && who != "public" && m.IntN(6) == 0 {
		words = append(words, pick(m, "acr mfa", "max_age 5m"))
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// lines makes some; the backquoted text of a `when` keeps its blanks.
func (m maker) lines(n int) (list []string) {
	for range n {
		list = append(list, m.line())
	}
	return list
}

// try makes a site, nil when the lines are refused.
func try(lines []string) *Site {
	c := policy.Config{Lines: linesFrom(strings.Join(lines, "\n")), Networks: networks}
	p, err := policy.New(c)
	if err != nil {
		return nil
	}
	return NewSite([]string{"app.test"}, "", p, c)
}

// asked is a request with all its facts.
func (m maker) asked(s *Site) policy.Request {
	var b strings.Builder
	for range 1 + m.IntN(3) {
		b.WriteString("/" + pick(m, "a", "b", "admin", "ann", "eve", "q7", "lab1"))
	}
	if m.IntN(6) == 0 {
		b.WriteString("/")
	}
	path, err := s.Policy.ParsePath(b.String())
	if err != nil {
		panic(err)
	}
	r := policy.Request{
		Method: pick(m, "GET", "HEAD", "POST", "DELETE"), Path: path, Host: "app.test",
		Now:  time.Date(2026, 11, 20+m.IntN(7), m.IntN(24), m.IntN(60), 0, 0, time.UTC),
		Addr: pick(m, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.9.2.3"), netip.MustParseAddr("192.0.2.1")),
	}
	if m.IntN(6) > 0 {
		r.Who = &policy.Subject{
			Username: pick(m, "ann", "eve"), Roles: pick(m, nil, []string{"doctor"}, []string{"nurse"}, []string{"nurse", "doctor"}), Groups: pick(m, nil, []string{"ward"}),
			Org: pick(m, "", "lab"), Source: pick(m, "idp", "lab"), ACR: pick(m, "", "mfa"), AMR: pick(m, nil, []string{"otp"}), Device: m.IntN(2) == 0,
			AuthTime: r.Now.Add(-time.Duration(m.IntN(10)) * time.Minute), Claims: pick(m, nil, map[string]string{"lab": "lab1"}, map[string]string{"lab": "q7"}),
		}
	}
	return r
}

// logged is the record that a gate writes about a request.
func logged(s *Site, r policy.Request) (string, policy.Decision) {
	d := s.Policy.Decide(r)
	decision := "denied"
	if d.Allowed {
		decision = "allowed"
	}
	pairs := []string{"method", r.Method, "path", s.Policy.Shape(r), "decision", decision, "reason", d.Reason, "client", r.Addr.String()}
	if r.Who != nil {
		quoted := func(list []string) string {
			if len(list) == 0 {
				return "[]"
			}
			return `["` + strings.Join(list, `","`) + `"]`
		}
		pairs = append(pairs, "name", r.Who.Username, "subject", "s", "source", r.Who.Source, "roles", quoted(r.Who.Roles), "acr", r.Who.ACR, "amr", quoted(r.Who.AMR))
	}
	line := recordOf(pairs...)
	return strings.Replace(line, "2026-11-23T08:00:00.000Z", r.Now.Format("2006-01-02T15:04:05.000Z"), 1), d
}

// TestReplayIsRight: what replay says of a record is what the new policy decides about the request that it was written for, whatever
// the log left out; or it says that it cannot tell.
func TestReplayIsRight(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(5, 1))}
	told, untold := 0, 0
	for range 800 {
		before, after := try(m.lines(1+m.IntN(5))), try(m.lines(1+m.IntN(5)))
		if before == nil || after == nil {
			continue
		}
		for range 20 {
			r := m.asked(before)
			line, d := logged(before, r)
			now := after.Policy.Decide(r)
			got := replayText(t, line, after)
			want := Result{Same: 1}
			switch {
			case got.CannotTell == 1:
				untold++
				continue
			case now.Allowed && !d.Allowed:
				want = Result{WouldAllow: 1}
			case !now.Allowed && d.Allowed:
				want = Result{WouldDeny: 1}
			}
			told++
			if got.Same != want.Same || got.WouldAllow != want.WouldAllow || got.WouldDeny != want.WouldDeny {
				t.Fatalf("%s%s: then %+v, now %+v, replay says %+v\nbefore:\n%v\nafter:\n%v", line, r.Path, d, now, got, texts(before), texts(after))
			}
		}
	}
	if told < 2*untold || untold == 0 {
		t.Errorf("%d records were told about, %d not", told, untold)
	}
}

func texts(s *Site) string {
	var b strings.Builder
	for _, l := range s.lines {
		fmt.Fprintln(&b, "  "+l.text)
	}
	return b.String()
}

// TestDiffMissesNothing: when a request is allowed by the new policy and was not by the old one, the comparison says that something
// opens, or may.
func TestDiffMissesNothing(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(5, 2))}
	opened, quiet := 0, 0
	for range 160 {
		lines := m.lines(2 + m.IntN(4))
		changed := slices.Clone(lines)
		switch i := m.IntN(len(changed)); m.IntN(3) {
		case 0:
			changed[i] = m.line()
		case 1:
			changed = slices.Delete(changed, i, i+1)
		default:
			changed = append(changed, m.line())
		}
		before, after := try(lines), try(changed)
		if before == nil || after == nil {
			continue
		}
		c := Compare([]*Site{before}, []*Site{after})
		if c.Opens() {
			opened++
			continue
		}
		quiet++
		for range 1000 {
			r := m.asked(before)
			if was, is := before.Policy.Decide(r), after.Policy.Decide(r); is.Allowed && !was.Allowed {
				t.Fatalf("%s %s by %+v opens by %+v, and the comparison says %q\nbefore:\n%v\nafter:\n%v", r.Method, r.Path, r.Who, is, said(c), texts(before), texts(after))
			}
		}
	}
	if opened < 15 || quiet < 15 {
		t.Errorf("%d pairs open, %d do not", opened, quiet)
	}
}

// TestMatrixIsRight: a cell that says yes or no is right for every request of its route by such a person.
func TestMatrixIsRight(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(5, 3))}
	cells := 0
	for range 300 {
		s := try(m.lines(1 + m.IntN(5)))
		if s == nil {
			continue
		}
		names := newMade(s)
		people, _ := actors(names, s)
		for _, route := range routes(s) {
			for _, a := range people {
				method := pick(m, usual...)
				cell := s.cell(names, route, method, a)
				if cell.Kind != Yes && cell.Kind != No && cell.Kind != SignIn {
					continue
				}
				for range 10 {
					r := m.asked(s)
					path, err := s.Policy.ParsePath(names.concrete(route, a.Who, m.IntN(2) == 0))
					if err != nil {
						t.Fatal(err)
					}
					r.Path, r.Method = path, method
					if a.Who == nil {
						r.Who = nil
					} else if r.Who != nil {
						it := *a.Who // the person of the cell, and all that the cell leaves open from elsewhere
						it.ACR, it.AMR, it.AuthTime, it.Device = r.Who.ACR, r.Who.AMR, r.Who.AuthTime, r.Who.Device
						r.Who = &it
					} else {
						continue
					}
					cells++
					if d := s.Policy.Decide(r); d.Allowed != (cell.Kind == Yes) {
						t.Fatalf("%s %s (%s) by %s is %+v, and the policy decides %+v at %s from %s\n%s", method, route, path, a.Name, cell, d, r.Now, r.Addr, texts(s))
					}
				}
			}
		}
	}
	if cells < 10_000 {
		t.Errorf("%d cells were looked at", cells)
	}
}

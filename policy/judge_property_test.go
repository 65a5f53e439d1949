package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// judged is a lottery for lines of the whole language, of few names, so that many lines have to do with one another.
type judged struct{ lottery }

func (l judged) pattern() string {
	var b strings.Builder
	for range 1 + l.IntN(3) {
		b.WriteString("/" + l.pick("a", "b", "A", "*", "{user}", "a", "b", "{x}", "{y}", "{claim.dept}"))
	}
	b.WriteString(l.pick("", "", "", "/", "/**", "/**"))
	return l.pick(b.String(), b.String(), b.String(), "/", "/**")
}

func (l judged) who() string {
	switch l.IntN(8) {
	case 0:
		return "public"
	case 1:
		return "any"
	case 2:
		return "role " + l.many(2, ",", "r1", "r2", "R1") + " " + l.pick("group g1", "org o1", "user a,b", "idp i1,i2", "device known")
	case 3:
		return "group " + l.many(2, ",", "g1", "g2")
	case 4:
		return "user " + l.many(2, ",", "a", "b", "A")
	}
	return "role " + l.many(3, ",", "r1", "r2", "R1")
}

func (l judged) network() string {
	return "network " + l.pick("10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "10.0.0.0/8,192.168.0.0/16", "0.0.0.0/0,::/0")
}

func (l judged) hours() string {
	return "hours " + l.pick("07:00-19:00 UTC", "mon-fri 07:00-19:00 UTC", "sat,sun 22:00-06:00 UTC", "19:00-07:00 UTC", "mon-fri 08:00-09:00 UTC", "07:00-19:00 Europe/Brussels")
}

// when are expressions of one word each, so that a line can be cut at blanks.
func (l judged) when() string {
	return "when " + l.pick(`request.query!="x"`, `claim.dept=="a"`, `claim.dept=="b"`, `path.x=="a"`, `true`, `"r2"in(user.roles)`)
}

func (l judged) conditions(deny bool) string {
	text := ""
	for l.IntN(3) == 0 {
		list := []string{l.network(), l.hours(), l.when(), "acr " + l.many(2, ",", "low", "high"), "max_age " + l.pick("5m", "1h"), "amr otp"}
		if deny {
			list = list[:3]
		}
		text += " " + list[l.IntN(len(list))]
	}
	return text
}

func (l judged) line() string {
	methods := " " + l.many(2, ",", "GET", "HEAD", "POST")
	if l.IntN(3) > 0 {
		methods = ""
	}
	paths := ""
	for range l.IntN(3) {
		paths += " " + l.pattern()
	}
	shadow := l.pick("", "", "", "", "shadow ")
	switch l.IntN(10) {
	case 0, 1, 2:
		return shadow + "deny " + l.who() + methods + paths + l.conditions(true)
	case 3, 4:
		return shadow + "require " + l.pick(l.network(), l.hours(), l.when(), "acr "+l.many(2, ",", "low", "high"), "max_age 5m", "max_age 1h", "amr otp", "device known") + methods + paths
	case 5:
		return "break_glass " + l.who() + methods + " on " + l.pattern() + " for " + l.pick("5m", "1h") + l.conditions(false)
	case 6:
		return shadow + "allow scope " + l.many(2, ",", "openid", "x:y", "patient/Observation.r") + l.pick("", " role r1,R1", " user a") + methods + l.pick(paths, " /a/{patient}", " /{patient}/**") + l.conditions(true)
	}
	return shadow + "allow " + l.who() + methods + paths + l.conditions(false)
}

func (l judged) request() (r Request, path string) {
	r, _ = l.lottery.request()
	r.Now = time.Date(2026, 11, 16+l.IntN(7), l.IntN(24), 30, 0, 0, time.UTC)
	r.Addr = netip.MustParseAddr(l.pick("10.1.2.3", "10.2.2.3", "192.168.1.1", "8.8.8.8", "fd00::1"))
	if l.IntN(20) == 0 {
		r.Addr, r.Now = netip.Addr{}, time.Time{}
	}
	if w := r.Who; w != nil {
		w.Groups, w.Org, w.Source = strings.Split(l.pick("g1", "g2", "g1,g2", ""), ","), l.pick("o1", "o2", ""), l.pick("i1", "i2", "i3")
		w.Claims, w.Device = map[string]string{"dept": l.pick("a", "b", "A", "")}, !w.Bearer && l.IntN(2) == 0
		if !w.AuthTime.IsZero() {
			w.AuthTime = r.Now.Add(-time.Duration(l.IntN(100)) * time.Minute)
		}
	}
	path = "/" + l.pick("a", "b", "A", "%61", "c")
	for range l.IntN(3) {
		path += "/" + l.pick("a", "b", "A", "%41", "c")
	}
	return r, path + l.pick("", "", "", "/")
}

// TestWhatChangesNothing: without a line that is said to change nothing, or without all of these, every decision is the same; what
// cannot be met because of a require line is indeed allowed to nobody.
func TestWhatChangesNothing(t *testing.T) {
	l := judged{lottery{rand.New(rand.NewPCG(5, 6))}}
	dropped, closed := 0, 0
	for range 4000 {
		c := Config{IgnoreCase: l.IntN(4) == 0}
		var rules []*rule
		for range 2 + l.IntN(8) {
			line := Line{Words: strings.Fields(l.line())}
			r, found := parseLine(&c, line)
			if len(found) == 0 && !slices.ContainsFunc(rules, func(other *rule) bool { return other.key() == r.key() }) {
				rules, c.Lines = append(rules, r), append(c.Lines, line)
			}
		}
		j := newJudgement(&c, rules)
		if len(j.dropped)+len(j.closed) == 0 {
			continue
		}
		with := build(&c, rules, false)
		for each := range rules {
			r := rules[each]
			if !j.dropped[r] && !j.closed[r] {
				continue
			}
			if j.dropped[r] {
				dropped++
			} else {
				closed++
			}
			without := slices.Delete(slices.Clone(rules), each, each+1)
			l.compare(t, &c, with, build(&c, without, false), rules, r, j.closed[r])
			if r.shadow {
				l.compare(t, &c, build(&c, rules, true), build(&c, without, true), rules, r, j.closed[r])
			}
		}
		left := slices.DeleteFunc(slices.Clone(rules), func(r *rule) bool { return j.dropped[r] })
		l.compare(t, &c, with, build(&c, left, false), rules, nil, false)
		l.compare(t, &c, build(&c, rules, true), build(&c, left, true), rules, nil, false)
	}
	if dropped < 1000 || closed < 500 {
		t.Errorf("the test sees too little: %d lines that change nothing, %d that are closed", dropped, closed)
	}
}

func (l judged) compare(t *testing.T, c *Config, with, without *Policy, rules []*rule, away *rule, closed bool) {
	t.Helper()
	for range 40 {
		r, path := l.request()
		r.Path = parse(t, path)
		a, b := with.Decide(r), without.Decide(r)
		_, glassA := with.Emergency(r)
		_, glassB := without.Emergency(r)
		if without.Knows(r.Method) == with.Knows(r.Method) && (a.Allowed != b.Allowed || glassA != glassB || !closed && a.Reason != b.Reason) {
			var texts []string
			for _, r := range rules {
				texts = append(texts, r.words)
			}
			words := "all"
			if away != nil {
				words = away.words
			}
			t.Fatalf("%s %s?%s from %s at %s %+v\n%s\n%+v %t\nwithout %s:\n%+v %t", r.Method, path, r.Query, r.Addr, r.Now, r.Who, strings.Join(texts, "\n"), a, glassA, words, b, glassB)
		}
	}
}

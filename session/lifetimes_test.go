package session

import (
	"testing"
	"time"
)

func TestLifetimesOf(t *testing.T) {
	const m, h = time.Minute, time.Hour
	roles := map[string]Lifetime{
		"doctor":  {Idle: 5 * m, Absolute: 10 * h, Sessions: 1, OnLimit: Move},
		"finance": {Idle: 30 * m, Sessions: 2, OnLimit: Refuse},
		"night":   {Absolute: 8 * h, Sessions: 1, OnLimit: Refuse},
		"kiosk":   {Absolute: 2 * m},
		"strict":  {OnLimit: Refuse},
		"silent":  {},
	}
	for name, c := range map[string]struct {
		of    Lifetime
		roles []string
		want  Lifetime
	}{
		"nothing said":                    {Lifetime{}, nil, Lifetime{15 * m, 12 * h, 0, ""}},
		"unknown role":                    {Lifetime{}, []string{"x"}, Lifetime{15 * m, 12 * h, 0, ""}},
		"a role that says nothing":        {Lifetime{}, []string{"silent"}, Lifetime{15 * m, 12 * h, 0, ""}},
		"everybody":                       {Lifetime{20 * m, 6 * h, 3, ""}, nil, Lifetime{20 * m, 6 * h, 3, Move}},
		"a role's own replaces it":        {Lifetime{20 * m, 6 * h, 3, Refuse}, []string{"doctor"}, Lifetime{5 * m, 10 * h, 1, Move}},
		"longer than everybody's":         {Lifetime{Idle: 10 * m}, []string{"finance"}, Lifetime{30 * m, 12 * h, 2, Refuse}},
		"the shortest of several":         {Lifetime{}, []string{"finance", "doctor"}, Lifetime{5 * m, 10 * h, 1, Move}},
		"in any order":                    {Lifetime{}, []string{"doctor", "finance"}, Lifetime{5 * m, 10 * h, 1, Move}},
		"refuse before move on a tie":     {Lifetime{}, []string{"doctor", "night"}, Lifetime{5 * m, 8 * h, 1, Refuse}},
		"in any order too":                {Lifetime{}, []string{"night", "doctor"}, Lifetime{5 * m, 8 * h, 1, Refuse}},
		"a role without rule adds none":   {Lifetime{}, []string{"doctor", "x"}, Lifetime{5 * m, 10 * h, 1, Move}},
		"idle is never beyond absolute":   {Lifetime{}, []string{"kiosk"}, Lifetime{2 * m, 2 * m, 0, ""}},
		"a way without a number":          {Lifetime{Sessions: 4}, []string{"strict"}, Lifetime{15 * m, 12 * h, 4, Refuse}},
		"a way without any number":        {Lifetime{}, []string{"strict"}, Lifetime{15 * m, 12 * h, 0, ""}},
		"a limit beside none is stricter": {Lifetime{}, []string{"strict", "finance"}, Lifetime{30 * m, 12 * h, 2, Refuse}},
		"absolute grows with idle":        {Lifetime{Idle: 20 * h}, nil, Lifetime{20 * h, 20 * h, 0, ""}},
	} {
		if got := (Lifetimes{Default: c.of, Roles: roles}).Of(c.roles); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestLifetimesCheck(t *testing.T) {
	for name, c := range map[string]struct {
		l    Lifetime
		good bool
	}{
		"zero":              {Lifetime{}, true},
		"all said":          {Lifetime{time.Minute, time.Hour, 2, Refuse}, true},
		"the longest":       {Lifetime{24 * time.Hour, 30 * 24 * time.Hour, 100, Move}, true},
		"row 78 idle":       {Lifetime{Idle: 24*time.Hour + time.Second}, false},
		"absolute":          {Lifetime{Absolute: 30*24*time.Hour + time.Second}, false},
		"fraction":          {Lifetime{Idle: 1500 * time.Millisecond}, false},
		"below a second":    {Lifetime{Absolute: time.Millisecond}, false},
		"negative":          {Lifetime{Idle: -time.Second}, false},
		"idle > absolute":   {Lifetime{Idle: 2 * time.Hour, Absolute: time.Hour}, false},
		"negative sessions": {Lifetime{Sessions: -1}, false},
		"too many sessions": {Lifetime{Sessions: 101}, false},
		"unknown way":       {Lifetime{Sessions: 1, OnLimit: "allow"}, false},
	} {
		for where, l := range map[string]Lifetimes{"default": {Default: c.l}, "role": {Roles: map[string]Lifetime{"doctor": c.l}}} {
			if err := l.Check(); (err == nil) != c.good {
				t.Errorf("%s, %s: %v", name, where, err)
			}
		}
	}
	if err := (Lifetimes{Roles: map[string]Lifetime{"a,b": {}}}).Check(); err == nil {
		t.Error("a role that is none")
	}
}

// Row 87, for roles: the idle and the absolute end are those of the token's roles,
// at the issue, at each renewal, and for a token from before the lifetimes changed.
func TestRow87LifetimesOfRoles(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	doctor := func(l Lifetime) func(*Config) {
		return func(c *Config) { c.Lifetimes.Roles = map[string]Lifetime{"doctor": l} }
	}
	m := start(t, s, sealer, c.now, doctor(Lifetime{Idle: 10 * time.Minute, Absolute: time.Hour}))
	session, cookies := issue(t, m) // doctor and finance
	if d, e := session.Expires.Sub(session.IssuedAt), session.Ends.Sub(session.Started); d != 10*time.Minute || e != time.Hour {
		t.Errorf("idle %v, absolute %v", d, e)
	}
	g := grant()
	g.Roles = []string{"finance"}
	other, _, err := m.Issue(t.Context(), g, host, Admission{})
	if err != nil || other.Expires.Sub(other.IssuedAt) != 15*time.Minute || other.Ends.Sub(other.Started) != 12*time.Hour {
		t.Errorf("%v, %+v", err, other)
	}
	pass(m, c, time.Minute)
	renewed, next, err := renew(m, session, lines(cookies), host)
	if err != nil || next.Expires.Sub(next.IssuedAt) != 10*time.Minute || !next.Ends.Equal(session.Ends) {
		t.Fatalf("%v, %+v", err, next)
	}
	// The next configuration is stricter: the old tokens follow at once.
	strict := start(t, s, sealer, c.now, doctor(Lifetime{Idle: 2 * time.Minute, Absolute: 30 * time.Minute}))
	found := wantFound(t, strict, line(renewed.Value, cookies[1].Value))
	if !found.Expires.Equal(next.IssuedAt.Add(2*time.Minute)) || !found.Ends.Equal(session.Started.Add(30*time.Minute)) {
		t.Errorf("%+v", found)
	}
	pass(strict, c, 2*time.Minute)
	m.follow()
	wantNone(t, strict, line(renewed.Value, cookies[1].Value))
	wantFound(t, m, line(renewed.Value, cookies[1].Value))
	// A milder one brings nothing back to life that its token says is over.
	mild := start(t, s, sealer, c.now, doctor(Lifetime{Idle: time.Hour, Absolute: 5 * time.Hour}))
	wantFound(t, mild, line(renewed.Value, cookies[1].Value))
	pass(mild, c, 8*time.Minute)
	wantNone(t, mild, line(renewed.Value, cookies[1].Value))
	if _, err := New(Config{Store: s, Sealer: sealer, Lifetimes: Lifetimes{Roles: map[string]Lifetime{"doctor": {Idle: -1}}}}); err == nil {
		t.Error("lifetimes that are wrong")
	}
}

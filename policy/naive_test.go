package policy

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// plainRule is a line of the language as data: the evaluator below tries every line on every request, without a tree, and was
// written from the language's description alone.
type plainRule struct {
	shadow   bool
	kind     string // "allow", "deny", "require", "break_glass", "budget"
	who      string // "public", "any", "" for subjects
	subjects map[string][]string
	device   bool
	methods  []string
	patterns []string
	conds    []plainCond
}

// plainCond is one condition; yes is nil where it is not known.
type plainCond struct {
	words []string
	level bool
	user  bool // a sign-in may change it
	yes   func(r Request, path string, vars map[string]string) *bool
	low   func(r Request, path string, vars map[string]string) *bool // with what a path is compared with in lower case; nil: the same
}

func (p plainRule) line() []string {
	var words []string
	if p.shadow {
		words = append(words, "shadow")
	}
	words = append(words, p.kind)
	if p.kind == "require" {
		words = append(words, p.conds[0].words...)
		return append(append(words, methodWord(p.methods)...), p.patterns...)
	}
	if p.who != "" {
		words = append(words, p.who)
	}
	for _, kind := range []string{"role", "group", "user", "org", "idp"} {
		if names := p.subjects[kind]; names != nil {
			words = append(words, kind, strings.Join(names, ","))
		}
	}
	if p.device {
		words = append(words, "device", "known")
	}
	switch p.kind {
	case "budget":
		return append(append(words, "5", "distinct", "{p}", "per", "1h", "on"), p.patterns...)
	case "break_glass":
		words = append(append(append(words, methodWord(p.methods)...), "on"), p.patterns...)
		words = append(words, "for", "30m")
	default:
		words = append(append(words, methodWord(p.methods)...), p.patterns...)
	}
	for _, c := range p.conds {
		words = append(words, c.words...)
	}
	return words
}

func methodWord(methods []string) []string {
	if methods == nil {
		return nil
	}
	return []string{strings.Join(methods, ",")}
}

func (p plainRule) folds() bool { return p.kind == "deny" || p.kind == "require" || p.kind == "budget" }

func (p plainRule) fits(r Request) bool {
	equal := func(a, b string) bool { return a == b && a != "" }
	if p.folds() {
		equal = func(a, b string) bool { return lower(a) == lower(b) && a != "" }
	}
	if p.who == "public" || p.kind == "require" {
		return true
	}
	if r.Who == nil {
		return false
	}
	for kind, names := range p.subjects {
		have := map[string][]string{"role": r.Who.Roles, "group": r.Who.Groups, "user": {r.Who.Username}, "org": {r.Who.Org}, "idp": {r.Who.Source}}[kind]
		found := false
		for _, name := range names {
			for _, mine := range have {
				found = found || equal(name, mine)
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func (p plainRule) lists(method string) bool {
	return p.methods == nil || slices.Contains(p.methods, method) || method == "HEAD" && slices.Contains(p.methods, "GET")
}

// match compares segment by segment and returns the variables.
func (p plainRule) match(pattern string, path Path, r Request, ignoreCase bool) (map[string]string, bool) {
	want, raw, decoded := strings.Split(pattern[1:], "/"), strings.Split(path.raw[1:], "/"), strings.Split(path.decoded[1:], "/")
	fold := p.folds()
	if last := len(raw) - 1; fold && last > 0 && raw[last] == "" {
		raw, decoded = raw[:last], decoded[:last]
	}
	if last := len(want) - 1; fold && last > 0 && want[last] == "" {
		want = want[:last]
	}
	vars := map[string]string{}
	mine := func(have, name string) bool {
		return have != "" && name != "" && (have == name || fold && lower(have) == lower(name))
	}
	for i, w := range want {
		if w == "**" {
			return vars, true
		}
		if i >= len(raw) {
			return nil, false
		}
		ok := false
		switch {
		case w == "*":
			ok = raw[i] != ""
		case w == "{user}":
			ok = r.Who != nil && mine(decoded[i], r.Who.Username) || r.Who == nil && p.kind == "require" && raw[i] != ""
		case w == "{claim.c}":
			ok = r.Who != nil && mine(decoded[i], r.Who.Claims["c"]) || r.Who == nil && p.kind == "require" && raw[i] != ""
		case strings.HasPrefix(w, "{"):
			ok, vars[w[1:len(w)-1]] = raw[i] != "", decoded[i]
		case fold:
			ok = lower(w) == lower(decoded[i])
		case ignoreCase:
			ok = lower(w) == lower(raw[i])
		default:
			ok = w == raw[i]
		}
		if !ok {
			return nil, false
		}
	}
	return vars, len(raw) == len(want)
}

// state says for one line and one pattern what holds.
type state struct {
	device, level, other bool // whether these are not met
	user                 bool // and a sign-in may change the other
}

func (p plainRule) state(r Request, path Path, vars map[string]string) (s state) {
	s.device = p.device && (r.Who == nil || !r.Who.Device)
	for _, c := range p.conds {
		text, large, small := strings.ReplaceAll(path.decoded, "\xff", "/"), map[string]string{}, map[string]string{} // a slash that was kept
		for k, v := range vars {
			large[k] = strings.ReplaceAll(v, "\xff", "/")
			small[k] = lower(large[k])
		}
		answers := []*bool{c.yes(r, text, large)}
		if p.folds() {
			answers = append(answers, c.yes(r, lower(text), small))
			if c.low != nil {
				answers = append(answers, c.low(r, lower(text), small))
			}
			if short := strings.TrimSuffix(text, "/"); short != "" {
				answers = append(answers, c.yes(r, short, large), c.yes(r, lower(short), small))
			}
		}
		met := p.kind != "deny"
		for _, a := range answers {
			switch {
			case p.kind == "deny" && (a == nil || *a):
				met = true
			case p.kind != "deny" && (a == nil || !*a):
				met = false
			}
		}
		if !met && c.level {
			s.level = true
		} else if !met {
			s.other, s.user = true, c.user
		}
	}
	return s
}

// visit goes to all lines of a kind whose method and path match.
func visit(rules []plainRule, kind string, r Request, path Path, ignoreCase bool, found func(plainRule, string, map[string]string)) {
	for _, rule := range rules {
		if rule.kind != kind || !rule.lists(r.Method) {
			continue
		}
		for _, pattern := range rule.patterns {
			if vars, ok := rule.match(pattern, path, r, ignoreCase); ok {
				found(rule, pattern, vars)
			}
		}
	}
}

// demanded is what the require lines say for one reading.
type demanded struct {
	condition, session, level bool
	acr                       [][]string
}

func demandedBy(rules []plainRule, r Request, path Path) (d demanded) {
	visit(rules, "require", r, path, false, func(rule plainRule, _ string, vars map[string]string) {
		s := rule.state(r, path, vars)
		switch {
		case r.Who == nil && (s.level || s.user):
			d.session = true
		case s.other || s.device:
			d.condition = true
		case s.level:
			d.level = true
		}
		d.acr = append(d.acr, rule.acr()...)
	})
	return d
}

func (p plainRule) acr() (lists [][]string) {
	for _, c := range p.conds {
		if c.words[0] == "acr" {
			lists = append(lists, strings.Split(c.words[1], ","))
		}
	}
	return lists
}

func possible(lists [][]string) bool {
	for _, level := range []string{"low", "mid", "high"} {
		if !slices.ContainsFunc(lists, func(list []string) bool { return !slices.Contains(list, level) }) {
			return true
		}
	}
	return false
}

// plainDecide is the reason for one reading of a path.
func plainDecide(rules []plainRule, r Request, path Path, ignoreCase bool) string {
	denied, allowed, nearly, step := false, false, false, false
	visit(rules, "deny", r, path, ignoreCase, func(rule plainRule, _ string, vars map[string]string) {
		s := rule.state(r, path, vars)
		denied = denied || rule.fits(r) && !s.other
	})
	demand := demandedBy(rules, r, path)
	levels := false
	visit(rules, "allow", r, path, ignoreCase, func(rule plainRule, _ string, vars map[string]string) {
		if !rule.fits(r) {
			return
		}
		s := rule.state(r, path, vars)
		if s.device || s.other {
			nearly = true
			return
		}
		allowed, levels = allowed || !s.level, levels || s.level
		step = step || possible(append(rule.acr(), demand.acr...))
	})
	switch {
	case denied:
		return ReasonDenied
	case !allowed && r.Who == nil:
		return ReasonNoSession
	case !allowed && levels && demand.condition:
		return ReasonCondition
	case !allowed && levels && step:
		return ReasonStepUp
	case !allowed && nearly:
		return ReasonCondition
	case !allowed:
		return ReasonNoRule
	case demand.condition:
		return ReasonCondition
	case demand.session:
		return ReasonNoSession
	case demand.level && step:
		return ReasonStepUp
	case demand.level:
		return ReasonDenied
	}
	return ReasonAllowed
}

// plainAnswer puts all readings together.
func plainAnswer(rules []plainRule, r Request, ignoreCase bool) string {
	order := []string{ReasonAllowed, ReasonStepUp, ReasonNoSession, ReasonScope, ReasonCondition, ReasonNoRule, ReasonDenied}
	worst := 0
	for _, path := range append([]Path{r.Path}, r.Path.readings()...) {
		worst = max(worst, slices.Index(order, plainDecide(rules, r, path, ignoreCase)))
	}
	return order[worst]
}

// plainBreak: is there a break_glass line under which each reading is the scope or below it? The line's max_age counts when it begins.
func plainBreak(rules []plainRule, r Request, words, scope string, ignoreCase, begins bool) bool {
	if r.Who == nil {
		return false
	}
	for _, path := range append([]Path{r.Path}, r.Path.readings()...) {
		if path.raw != scope && !strings.HasPrefix(path.raw, scope+"/") || plainDecide(rules, r, path, ignoreCase) == ReasonDenied && plainDenied(rules, r, path) {
			return false
		}
		if d := demandedBy(rules, r, path); d.condition || d.session || d.level {
			return false
		}
		held := false
		visit(rules, "break_glass", r, path, ignoreCase, func(rule plainRule, pattern string, vars map[string]string) {
			if strings.Join(rule.line(), " ") != words {
				return
			}
			if !begins {
				rule.conds = slices.DeleteFunc(slices.Clone(rule.conds), func(c plainCond) bool { return c.words[0] == "max_age" })
			}
			if !rule.fits(r) || rule.state(r, path, vars) != (state{}) {
				return
			}
			granted := plainScope(pattern, path)
			held = held || granted != "" && (granted == scope || strings.HasPrefix(scope, granted+"/"))
		})
		if !held {
			return false
		}
	}
	return true
}

func plainDenied(rules []plainRule, r Request, path Path) (denied bool) {
	visit(rules, "deny", r, path, false, func(rule plainRule, _ string, vars map[string]string) {
		denied = denied || rule.fits(r) && !rule.state(r, path, vars).other
	})
	return denied
}

func plainScope(pattern string, path Path) string {
	raw, want := strings.Split(path.raw[1:], "/"), strings.Split(pattern[1:], "/")
	for _, about := range []func(string) bool{
		func(w string) bool { return w == "{patient}" },
		func(w string) bool { return strings.HasPrefix(w, "{") && w != "{user}" && w != "{claim.c}" },
		func(w string) bool { return w == "*" || w == "**" },
	} {
		if i := slices.IndexFunc(want, about); i >= 0 {
			if i >= len(raw) || raw[i] == "" {
				return ""
			}
			return "/" + strings.Join(raw[:i+1], "/")
		}
	}
	return ""
}

func yes(b bool) *bool { return &b }

// plainConds are conditions of all kinds with what they mean; p is whether the patterns have that variable.
func plainConds(p bool) []plainCond {
	brussels, _ := time.LoadLocation("Europe/Brussels")
	network := func(cidrs ...string) func(Request, string, map[string]string) *bool {
		return func(r Request, _ string, _ map[string]string) *bool {
			if !r.Addr.IsValid() {
				return nil
			}
			for _, cidr := range cidrs {
				_, n, _ := net.ParseCIDR(cidr)
				if n.Contains(net.ParseIP(r.Addr.String())) {
					return yes(true)
				}
			}
			return yes(false)
		}
	}
	hours := func(zone *time.Location, in func(day, clock string) bool) func(Request, string, map[string]string) *bool {
		return func(r Request, _ string, _ map[string]string) *bool {
			if r.Now.IsZero() {
				return nil
			}
			return yes(in(r.Now.In(zone).Format("Mon"), r.Now.In(zone).Format("15:04")))
		}
	}
	level := func(in func(Request) bool) func(Request, string, map[string]string) *bool {
		return func(r Request, _ string, _ map[string]string) *bool { return yes(r.Who != nil && in(r)) }
	}
	who := func(in func(*Subject) *bool) func(Request, string, map[string]string) *bool {
		return func(r Request, _ string, _ map[string]string) *bool {
			if r.Who == nil {
				return nil
			}
			return in(r.Who)
		}
	}
	age := func(limit time.Duration) func(Request) bool {
		return func(r Request) bool {
			age := r.Now.Sub(r.Who.AuthTime)
			return !r.Who.AuthTime.IsZero() && age <= limit && age >= -time.Minute
		}
	}
	list := []plainCond{
		{words: []string{"network", "hospital"}, yes: network("10.0.0.0/8", "2001:db8::/32")},
		{words: []string{"network", "10.1.0.0/16,192.0.2.7"}, yes: network("10.1.0.0/16", "192.0.2.7/32")},
		{words: []string{"hours", "mon-fri", "07:00-19:00", "Europe/Brussels"}, yes: hours(brussels, func(day, clock string) bool {
			return day != "Sat" && day != "Sun" && clock >= "07:00" && clock < "19:00"
		})},
		{words: []string{"hours", "fri", "22:00-06:00", "Europe/Brussels"}, yes: hours(brussels, func(day, clock string) bool {
			return day == "Fri" && clock >= "22:00" || day == "Sat" && clock < "06:00"
		})},
		{words: []string{"hours", "00:00-12:00,13:00-24:00", "UTC"}, yes: hours(time.UTC, func(_, clock string) bool { return clock < "12:00" || clock >= "13:00" })},
		{words: []string{"acr", "mid,high"}, level: true, yes: level(func(r Request) bool { return r.Who.ACR == "mid" || r.Who.ACR == "high" })},
		{words: []string{"acr", "low,mid"}, level: true, yes: level(func(r Request) bool { return r.Who.ACR == "low" || r.Who.ACR == "mid" })},
		{words: []string{"acr", "low,high"}, level: true, yes: level(func(r Request) bool { return r.Who.ACR == "low" || r.Who.ACR == "high" })},
		{words: []string{"amr", "otp,hwk"}, level: true, yes: level(func(r Request) bool { return slices.Contains(r.Who.AMR, "otp") || slices.Contains(r.Who.AMR, "hwk") })},
		{words: []string{"max_age", "5m"}, level: true, yes: level(age(5 * time.Minute))},
		{words: []string{"when", `request.query == "x"`}, yes: func(r Request, _ string, _ map[string]string) *bool { return yes(r.Query == "x") }},
		{words: []string{"when", `request.path.startsWith("/a/")`}, yes: func(_ Request, path string, _ map[string]string) *bool { return yes(strings.HasPrefix(path, "/a/")) }},
		{words: []string{"when", `request.time.getHours("UTC") < 12`}, yes: hours(time.UTC, func(_, clock string) bool { return clock < "12:00" })},
		{words: []string{"when", `inNetwork(request.address, "10.0.0.0/8")`}, yes: network("10.0.0.0/8")},
		{words: []string{"when", `"r1" in user.roles`}, user: true, yes: who(func(s *Subject) *bool { return yes(slices.Contains(s.Roles, "r1")) })},
		{words: []string{"when", `claim.c == "a"`}, user: true, yes: who(func(s *Subject) *bool {
			if s.Claims["c"] == "" {
				return nil
			}
			return yes(s.Claims["c"] == "a")
		})},
	}
	if p {
		list = append(list, plainCond{words: []string{"when", `path.p == "a"`}, yes: func(_ Request, _ string, vars map[string]string) *bool { return yes(vars["p"] == "a") }},
			plainCond{words: []string{"when", `path.p == "B"`}, yes: func(_ Request, _ string, vars map[string]string) *bool { return yes(vars["p"] == "B") },
				low: func(_ Request, _ string, vars map[string]string) *bool { return yes(vars["p"] == "b") }},
			plainCond{words: []string{"when", `path.p == user.name`}, user: true, yes: func(r Request, _ string, vars map[string]string) *bool {
				if r.Who == nil || r.Who.Username == "" {
					return nil
				}
				return yes(vars["p"] == r.Who.Username)
			}})
	}
	return list
}

var plainNetworks = map[string][]netip.Prefix{"hospital": {netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}

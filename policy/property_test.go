package policy

import (
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// naive is the language of the design once more, written without a tree: every line is tried on every request. It returns the
// reason of the decision.
func naive(texts []string, r Request, path string) string {
	allowed, denied, met, wanted := false, false, true, false
	var levels []string // which are in all lines
	asked := false
	for _, text := range texts {
		words := strings.Fields(text)
		equal := func(a, b string) bool { return a == b }
		if words[0] == "deny" {
			equal = func(a, b string) bool { return lower(a) == lower(b) }
		}
		who, rest := words[1], words[2:]
		var names, scopes []string
		if who != "public" && who != "any" {
			names, rest = strings.Split(rest[0], ","), rest[1:]
		}
		within := ""
		if who == "scope" {
			scopes = names
			if len(rest) > 0 && (rest[0] == "role" || rest[0] == "user") {
				within, names, rest = rest[0], strings.Split(rest[1], ","), rest[2:]
			}
		}
		var methods []string
		if len(rest) > 0 && rest[0][0] != '/' {
			methods, rest = strings.Split(rest[0], ","), rest[1:]
		}
		if len(rest) == 0 {
			rest = []string{"/**"}
		}
		fits := len(methods) == 0 || slices.Contains(methods, r.Method) || r.Method == "HEAD" && slices.Contains(methods, "GET")
		is := func(kind string) bool {
			if r.Who == nil {
				return false
			}
			return kind == "role" && slices.ContainsFunc(names, func(n string) bool {
				return slices.ContainsFunc(r.Who.Roles, func(role string) bool { return equal(n, role) })
			}) ||
				kind == "user" && r.Who.Username != "" && slices.ContainsFunc(names, func(n string) bool { return equal(n, r.Who.Username) })
		}
		for _, pattern := range rest {
			hit := fits && naiveMatch(naiveFree(pattern, who), path, r.Who, words[0])
			if who == "scope" && r.Who != nil && r.Who.Bearer && r.Who.Patient == "" && (within == "" || is(within)) {
				hope := *r.Who
				hope.Patient = "anybody"
				wanted = wanted || fits && naiveMatch(strings.ReplaceAll(pattern, "{patient}", "*"), path, &hope, "allow") &&
					slices.ContainsFunc(scopes, func(s string) bool {
						return !naiveGranted(s, r.Who.Scopes) && (strings.HasPrefix(s, "patient/") || naiveAbout(pattern, path, s, r))
					})
			}
			switch {
			case !hit:
			case words[0] == "require":
				met = met && naiveMet(who, names, r)
				if who == "acr" && !asked {
					asked, levels = true, names
				} else if who == "acr" {
					levels = slices.DeleteFunc(slices.Clone(levels), func(l string) bool { return !slices.Contains(names, l) })
				}
			case words[0] == "deny":
				denied = denied || who == "public" || who == "any" && r.Who != nil || is(who)
			case who == "public":
				allowed = true
			case who == "scope":
				if r.Who == nil || !r.Who.Bearer || within != "" && !is(within) {
					break
				}
				for _, scope := range scopes {
					granted, mine := naiveGranted(scope, r.Who.Scopes), naiveAbout(pattern, path, scope, r)
					allowed = allowed || granted && mine
					wanted = wanted || !granted && mine
				}
			case r.Who != nil && !r.Who.Bearer:
				allowed = allowed || who == "any" || is(who)
			}
		}
	}
	switch {
	case denied:
		return ReasonDenied
	case !allowed && r.Who == nil, allowed && !met && r.Who == nil:
		return ReasonNoSession
	case allowed && met:
		return ReasonAllowed
	case allowed && asked && len(levels) == 0:
		return ReasonDenied
	case allowed:
		return ReasonStepUp
	case wanted:
		return ReasonScope
	}
	return ReasonNoRule
}

func naiveMet(what string, names []string, r Request) bool {
	if r.Who == nil {
		return false
	}
	switch what {
	case "acr":
		return slices.Contains(names, r.Who.ACR)
	case "amr":
		return slices.ContainsFunc(r.Who.AMR, func(m string) bool { return slices.Contains(names, m) })
	}
	age, _ := time.ParseDuration(names[0])
	return !r.Who.AuthTime.IsZero() && r.Now.Sub(r.Who.AuthTime) <= age
}

// naiveGranted looks for each letter of a SMART scope by itself.
func naiveGranted(want string, scopes []string) bool {
	smart := regexp.MustCompile(`^(patient|user|system)/([A-Z][a-z][A-Za-z]*|\*)\.(c?r?u?d?s?|read|write|\*)$`)
	long := strings.NewReplacer("read", "rs", "write", "cud", "*", "cruds")
	w := smart.FindStringSubmatch(want)
	if w == nil {
		return slices.Contains(scopes, want)
	}
	for _, letter := range long.Replace(w[3]) {
		if !slices.ContainsFunc(scopes, func(text string) bool {
			g := smart.FindStringSubmatch(text)
			return g != nil && g[1] == w[1] && (g[2] == "*" || g[2] == w[2]) && strings.ContainsRune(long.Replace(g[3]), letter)
		}) {
			return false
		}
	}
	return true
}

var including = regexp.MustCompile(`(?i)^_(rev)?include([^\w-].*)?$`)

// naiveAbout: what other types' resources a search brings along is for tokens that may read them all.
func naiveAbout(pattern, path, scope string, r Request) bool {
	context, kind, smart := strings.Cut(scope, "/")
	values, err := url.ParseQuery(r.Query)
	switch {
	case context == "patient":
		return naiveMine(pattern, path, scope, r)
	case !smart || strings.HasPrefix(kind, "*"):
		return true
	case err != nil: // whatever a name is that cannot be read
		return naiveGranted(context+"/*.r", r.Who.Scopes)
	}
	for name := range values {
		if including.MatchString(name) && !naiveGranted(context+"/*.r", r.Who.Scopes) {
			return false
		}
	}
	return true
}

// naiveMine reads the query with net/url.
func naiveMine(pattern, path, scope string, r Request) bool {
	values, err := url.ParseQuery(r.Query)
	if err != nil || r.Who.Patient == "" {
		return false
	}
	named := false
	for name, list := range values {
		if including.MatchString(name) {
			return false
		}
		if !regexp.MustCompile(`(?i)^(patient|subject)([^\w-].*)?$`).MatchString(name) {
			continue
		}
		if !slices.Contains([]string{"patient", "subject", "patient:Patient", "subject:Patient"}, name) ||
			slices.ContainsFunc(list, func(v string) bool { return strings.TrimPrefix(v, "Patient/") != r.Who.Patient }) {
			return false
		}
		named = true
	}
	if strings.Contains(pattern+"/", "/{patient}/") {
		return true
	}
	end := regexp.MustCompile(`/([A-Z][a-z][A-Za-z]*/)?([A-Z][a-z][A-Za-z]*)$`).FindStringSubmatch(path)
	kind := strings.Split(strings.TrimPrefix(scope, "patient/"), ".")[0]
	return named && (r.Method == "GET" || r.Method == "HEAD") && end != nil && end[1] == "" && (kind == "*" || kind == end[2])
}

// naiveFree: a {patient} is somebody's in a line for scopes only.
func naiveFree(pattern, who string) string {
	if who == "scope" {
		return pattern
	}
	return strings.ReplaceAll(pattern, "{patient}", "*")
}

func naiveMatch(pattern, path string, who *Subject, action string) bool {
	fold, require := action != "allow", action == "require"
	equal := func(a, b string) bool { return a == b }
	if fold {
		equal = func(a, b string) bool { return lower(a) == lower(b) }
	}
	if fold && path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	if fold && pattern != "/" {
		pattern = strings.TrimSuffix(pattern, "/")
	}
	want, have := strings.Split(pattern[1:], "/"), strings.Split(path[1:], "/")
	for i, w := range want {
		if w == "**" {
			return len(have) >= i
		}
		if i >= len(have) {
			return false
		}
		decoded, _ := url.PathUnescape(have[i])
		switch {
		case w == "*" && have[i] != "":
		case w == "{user}" && who != nil && who.Username != "" && equal(decoded, who.Username):
		case w == "{user}" && who == nil && require && have[i] != "":
		case w == "{patient}" && who != nil && who.Bearer && who.Patient != "" && decoded == who.Patient:
		case w != "*" && w[:min(1, len(w))] != "{" && !fold && w == have[i]:
		case w != "*" && w[:min(1, len(w))] != "{" && fold && equal(w, decoded):
		default:
			return false
		}
	}
	return len(have) == len(want)
}

// lottery makes up rules and requests.
type lottery struct{ *rand.Rand }

func (l lottery) pick(list ...string) string { return list[l.IntN(len(list))] }

func (l lottery) many(max int, sep string, list ...string) string {
	l.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return strings.Join(list[:1+l.IntN(max)], sep)
}

func (l lottery) pattern() string {
	var b strings.Builder
	for range 1 + l.IntN(4) {
		b.WriteString("/" + l.pick("a", "b", "A", "x.y", "*", "{user}", "a", "b", "Observation", "{patient}"))
	}
	b.WriteString(l.pick("", "", "", "/", "/**", "/**"))
	return l.pick(b.String(), b.String(), b.String(), "/", "/**")
}

func (l lottery) scopes() []string {
	return []string{"patient/Observation.r", "patient/Observation.rs", "patient/*.rs", "patient/Observation.s", "user/Observation.cruds", "user/*.read", "user/Encounter.cud", "user/Observation.write", "openid", "x:y"}
}

// line makes up one that may not compile.
func (l lottery) line() string {
	text := l.pick("allow ", "allow ", "deny ") + l.pick("public", "any", "role "+l.many(2, ",", "r1", "r2", "R1"), "user "+l.many(2, ",", "a", "b", "A", "q"))
	methods := l.many(3, ",", "GET", "HEAD", "POST", "PROPFIND")
	if l.IntN(3) > 0 {
		methods = ""
	}
	switch l.IntN(4) {
	case 0:
		text, methods = "allow scope "+l.many(2, ",", l.scopes()...)+l.pick("", "", " role r1,R1", " user a"), l.many(3, ",", "GET", "GET", "POST")
	case 1:
		text = "require " + l.pick("acr "+l.many(3, ",", "low", "mid", "high"), "amr "+l.many(2, ",", "pwd", "otp", "hwk"), "max_age 5m", "max_age 1h")
	}
	text += " " + methods
	for range l.IntN(3) {
		text += " " + l.pattern()
	}
	return strings.TrimSpace(text)
}

func (l lottery) subject(now time.Time) *Subject {
	if l.IntN(6) == 0 {
		return nil
	}
	who := &Subject{Username: l.pick("a", "b", "A", "", "q"), Roles: strings.Split(l.many(2, ",", "r1", "r2", "R1", "none"), ","),
		ACR: l.pick("", "low", "mid", "high", "high"), AMR: strings.Split(l.many(3, ",", "pwd", "otp", "hwk", "x"), ",")}
	if l.IntN(4) > 0 {
		who.AuthTime = now.Add(-time.Duration(l.IntN(100)) * time.Minute)
	}
	if l.IntN(2) == 0 {
		return who
	}
	who.Bearer, who.Patient = true, l.pick("", "a", "b", "B")
	who.Scopes = strings.Split(l.many(3, " ", append(l.scopes(), "patient/Observation.sr", "patient/*.cruds?x=y", "user/*.*")...), " ")
	return who
}

func (l lottery) request() (r Request, path string) {
	r.Now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 1 + l.IntN(4) {
		path += "/" + l.pick("a", "b", "A", "B", "%61", "%41", "x.y", "c", "a%20b", "Observation", "Observation")
	}
	path = l.pick(path, path, path, path+"/", "/")
	r.Method, r.Who = l.pick("GET", "HEAD", "POST", "DELETE", "PROPFIND"), l.subject(r.Now)
	r.Query = l.pick("", "", "patient=a", "subject=Patient/b", "patient=a&subject=Patient/b", "x=y&patient%3APatient=%61&z", "patient=a&_Include:iterate=x", "_revinclude=x", "patient=a,b", "patient:not=a", "Patient=a", "patient=a&%zz")
	return r, path
}

// TestDecideEqualsNaive compares thousands of random sets of rules with the naive reading, and tries what a refusal promises.
func TestDecideEqualsNaive(t *testing.T) {
	l := lottery{rand.New(rand.NewPCG(1, 2))}
	seen := map[string]int{}
	for range 4000 {
		first := "allow user zoe /only/zoe"
		texts := []string{first}
		for range 1 + l.IntN(8) {
			text := l.line()
			if _, err := Compile(lines(append(slices.Clone(texts), text)...)); err == nil {
				texts = append(texts, text)
			}
		}
		p := compile(t, texts...)
		for range 20 {
			r, path := l.request()
			r.Path = parse(t, path)
			d, want := p.Decide(r), naive(texts, r, path)
			if !p.Knows(r.Method) {
				want = ReasonMethod
			}
			if d.Reason != want || d.Allowed != (want == ReasonAllowed) || d.Allowed && d.Rule == "" {
				t.Fatalf("%s %s?%s %+v\n%s\n%+v, naive: %s", r.Method, path, r.Query, r.Who, strings.Join(texts, "\n"), d, want)
			}
			checkPromise(t, p, r, d)
			seen[d.Reason]++
		}
	}
	for _, reason := range []string{ReasonAllowed, ReasonDenied, ReasonNoRule, ReasonNoSession, ReasonStepUp, ReasonScope} {
		if seen[reason] < 500 {
			t.Errorf("the test sees too little: %v", seen)
		}
	}
}

// checkPromise does what the decision says would be enough.
func checkPromise(t *testing.T, p *Policy, r Request, d Decision) {
	t.Helper()
	if r.Who == nil {
		return
	}
	who := *r.Who
	r.Who = &who
	switch d.Reason {
	case ReasonStepUp:
		who.AuthTime, who.AMR = r.Now.Add(-d.Need.MaxAge), nil
		if len(d.Need.ACR) > 0 {
			who.ACR = d.Need.ACR[len(d.Need.ACR)-1]
		}
		for _, list := range d.Need.AMR {
			who.AMR = append(who.AMR, list[0])
		}
		if again := p.Decide(r); !again.Allowed {
			t.Fatalf("%+v: showing all of it gives %+v", d, again)
		}
	case ReasonScope:
		if who.Patient == "" {
			return // its patient would have to fit, too
		}
		enough := false
		for _, scope := range d.Scopes {
			who.Scopes = append(slices.Clone(r.Who.Scopes), scope)
			again := p.Decide(r)
			enough = enough || again.Allowed || again.Reason == ReasonStepUp || again.Reason == ReasonDenied
		}
		if !enough {
			t.Fatalf("%+v: none of the scopes is enough for %+v", d, who)
		}
	}
}

package report

import (
	"regexp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// The kinds of lines that matter here.
const (
	kindAllow   = "allow"
	kindDeny    = "deny"
	kindRequire = "require"
)

// line is a line of a policy, and what it has to know.
type line struct {
	kind       string // the first word, or the second after shadow
	shadow     bool
	public     bool
	subjects   []words
	methods    []string // none: all
	patterns   []string
	conditions []words
	text       string // as the policy names it
	needed     facts
	at         string
	split      [][]string // segments of each pattern
}

// words is a keyword and what follows it.
type words struct {
	key    string
	values []string
}

func (w words) String() string { return strings.Join(append([]string{w.key}, w.values...), " ") }

func newLine(info policy.LineInfo) line {
	l := line{kind: info.Kind, shadow: info.Shadow, public: info.Public, methods: info.Methods, patterns: info.Patterns, text: info.Rule, at: info.At}
	for _, t := range info.Subjects {
		l.subjects = append(l.subjects, words{t.Key, t.Values})
	}
	for _, t := range info.Conditions {
		l.conditions = append(l.conditions, words{t.Key, t.Values})
	}
	for _, p := range l.patterns {
		l.split = append(l.split, segments(p))
	}
	l.needed = l.needs()
	return l
}

// facts are what a decision can depend on besides method, path, name and roles.
type facts uint16

const (
	factTime facts = 1 << iota
	factAddr
	factACR
	factAMR
	factAge
	factDevice
	factGroups
	factOrg
	factClaims
	factQuery
	factPatient
	factSource
	factWho        // of a condition: which of all people who could have a role it is
	factOwn        // the claims that patterns have places for
	factPath       // of a condition: which of all paths that a pattern matches
	factHost       // of a condition: under which of its hosts the site is asked for
	factAll  facts = 1<<iota - 1
)

// sign are the facts that a new sign-in can mend.
const factSign = factACR | factAMR | factAge

// needs returns what a condition has to know.
func (w words) needs() facts {
	switch w.key {
	case "network":
		return factAddr
	case "hours":
		return factTime
	case "acr":
		return factACR
	case "amr":
		return factAMR
	case "max_age":
		return factAge | factTime
	case "device":
		return factDevice
	case "group":
		return factGroups
	case "org":
		return factOrg
	case "idp":
		return factSource
	case "role", "user":
		return 0
	case "scope":
		for _, scope := range w.values {
			if strings.Contains(scope, "/") { // SMART: the query and the patient may matter
				return factQuery | factPatient
			}
		}
		return 0
	case "when":
		return whenNeeds(strings.Join(w.values, " "))
	}
	return factAll
}

var (
	celName = regexp.MustCompile(`\b(request|user|claim|path)\b(\s*\.\s*(\w+))?`)
	celFact = map[string]facts{
		"request.time": factTime, "request.address": factAddr, "request.query": factQuery, "request.method": 0, "request.path": factPath, "request.host": factHost,
		"user.name": factWho, "user.roles": factWho, "user.groups": factGroups | factWho, "user.org": factOrg | factWho, "user.idp": factSource | factWho,
		"user.acr": factACR, "user.amr": factAMR, "user.auth_time": factAge, "user.device_known": factDevice,
	}
)

// whenNeeds reads the names in a condition. A name in a text within it counts as well, and one that is not known as everything.
func whenNeeds(text string) (needs facts) {
	for _, m := range celName.FindAllStringSubmatch(text, -1) {
		switch {
		case m[1] == "path":
			needs |= factPath
		case m[1] == "claim":
			needs |= factClaims
		default:
			fact, ok := celFact[m[1]+"."+m[3]]
			if !ok {
				fact = factAll
			}
			needs |= fact
		}
	}
	return needs
}

// needs returns what the line has to know of a request and of who asks.
func (l *line) needs() (needs facts) {
	for _, w := range l.subjects {
		needs |= w.needs()
	}
	for _, w := range l.conditions {
		needs |= w.needs()
	}
	for _, p := range l.patterns {
		if strings.Contains(p, "{claim.") {
			needs |= factOwn
		}
	}
	return needs
}

// admits reports whether the line is about somebody, as far as it says who. A deny folds ASCII case, as the policy does.
func (l *line) admits(who *policy.Subject, known facts) bool {
	switch {
	case l.kind == kindRequire || l.public:
		return true
	case who == nil:
		return false
	case who.Bearer && l.kind != kindDeny && !slices.ContainsFunc(l.subjects, func(w words) bool { return w.key == "scope" }):
		return false // a token is nobody's presence
	}
	return !slices.ContainsFunc(l.subjects, func(w words) bool {
		return (w.key == "scope" || w.needs()&^known == 0) && !w.names(who, l.kind == kindDeny)
	})
}

// names reports whether somebody is one of those that a subject names.
func (w words) names(who *policy.Subject, fold bool) bool {
	var has []string
	switch w.key {
	case "role":
		has = who.Roles
	case "user":
		has = []string{who.Username}
	case "group":
		has = who.Groups
	case "org":
		has = []string{who.Org}
	case "idp":
		has = []string{who.Source}
	case "scope":
		if has = who.Scopes; !who.Bearer {
			return false
		}
		for _, scope := range has {
			if strings.Contains(scope, "/") && slices.ContainsFunc(w.values, func(v string) bool { return strings.Contains(v, "/") }) {
				return true // whether it is enough is for the policy to say
			}
		}
	}
	return slices.ContainsFunc(w.values, func(name string) bool {
		return name != "" && slices.ContainsFunc(has, func(h string) bool { return h == name || fold && lower(h) == lower(name) })
	})
}

// lower folds the letters A to Z and no others.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

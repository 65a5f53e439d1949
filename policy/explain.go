package policy

import "strings"

// Explanation is a Decision with all lines that had a part in it.
type Explanation struct {
	Decision Decision
	Matched  []Match
	// Costly says that the expressions of all lines together cost more than one decision may: those that came last had no answer.
	Costly bool
}

// Match is one line whose path and method match a request.
type Match struct {
	Rule, Route string
	Kind        string // its first words: "allow", "deny", "require", "break_glass", "budget", with "shadow " before them
	Holds       bool   // all of it matches; for a require: it is met
	Why         string // what does not
}

// LineInfo is one line, taken apart.
type LineInfo struct {
	Rule, At, Kind       string // Rule is its words and its place, as that of a Decision
	Public, Shadow       bool
	Subjects, Conditions []Term
	Methods, Patterns    []string // no methods: all
}

// Term is a keyword of a line and what follows it: role and its names, network and its list, hours and their days, times and zone.
type Term struct {
	Key    string
	Values []string
}

// Explain answers r as Decide does, and says which lines had a part in it. It tries each line by itself, and is for people.
func (p *Policy) Explain(r Request) Explanation {
	explanation := Explanation{Decision: p.decideAll(&r)}
	explanation.Costly = r.spent > maxSteps
	if p == nil || r.Path.raw == "" {
		return explanation
	}
	readings := append([]Path{r.Path}, r.Path.readings()...)
	for _, rule := range p.rules {
		if !rule.lists(r.Method) {
			continue
		}
		r.spent = 0 // each line is judged as if it stood alone
		if m, ok := p.matchOf(rule, &r, readings); ok {
			explanation.Matched = append(explanation.Matched, m)
		}
	}
	return explanation
}

// matchOf says whether the line holds for one of the readings, or else why it does not for the first that its paths match.
func (p *Policy) matchOf(rule *rule, r *Request, readings []Path) (m Match, ok bool) {
	for i := range readings {
		for _, e := range p.entriesOf(rule) {
			q := newQuery(r, &readings[i])
			q.fold, q.hidden = rule.folds(), rule.kind == kindRequire && r.Who == nil
			q.token = !q.fold && r.Who != nil && r.Who.Bearer
			if !p.matches(&q, e) {
				continue
			}
			why := whyNot(&q, e)
			if !ok || why == "" {
				m, ok = Match{Rule: rule.text, Route: e.route, Kind: rule.name(), Holds: why == "", Why: why}, true
			}
			if why == "" {
				return m, true
			}
		}
	}
	return m, ok
}

// entriesOf are the patterns of a line, also of a shadow line, which is in no tree.
func (p *Policy) entriesOf(r *rule) (list []*entry) {
	if list = p.entries[r]; list != nil {
		return list
	}
	for _, pattern := range r.patterns {
		list = append(list, newEntry(r, pattern))
	}
	return list
}

// whyNot says what of a line is not there, for people.
func whyNot(q *query, e *entry) string {
	switch {
	case e.who == whoPublic, e.who == whoEverybody:
	case q.who == nil:
		return "nobody is signed in"
	case q.token && e.kind == kindGlass:
		return "it is for people who are signed in"
	case q.token && e.who != whoScope:
		return "it is for sessions, and this is an access token"
	case !q.fold && !q.token && e.who == whoScope:
		return "it is for access tokens"
	case e.who == whoScope:
		if (&scoped{e}).find(q) != nil {
			return ""
		}
		if e.isFor(q.who, false) && e.lacks(q) == 0 {
			return "the token's scopes, or whose data it is"
		}
	}
	var parts []string
	missing := e.lacks(q)
	for _, part := range []struct {
		bit  Missing
		text string
	}{
		{MissingRole, "who it is"}, {MissingDevice, "the device is not known"}, {MissingNetwork, "the address"},
		{MissingHours, "the time"}, {MissingOther, "the expression"}, {MissingLevel, "the sign-in"},
	} {
		if missing&part.bit != 0 {
			parts = append(parts, part.text)
		}
	}
	return strings.Join(parts, ", ")
}

// Lines returns all lines as they were read, in their order. What it holds is read only.
func (p *Policy) Lines() []LineInfo {
	if p == nil {
		return nil
	}
	list := make([]LineInfo, len(p.rules))
	for i, r := range p.rules {
		info := LineInfo{Rule: r.text, At: r.at, Kind: r.kind.String(), Shadow: r.shadow, Public: r.who == whoPublic, Conditions: r.terms, Methods: r.methods, Patterns: r.patterns}
		for _, s := range r.subjects {
			info.Subjects = append(info.Subjects, Term{s.by.String(), s.names})
		}
		if len(r.scopes) > 0 {
			info.Subjects = append(info.Subjects, Term{"scope", r.scopeTexts()})
		}
		list[i] = info
	}
	return list
}

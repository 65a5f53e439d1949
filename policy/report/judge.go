package report

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/policy"
)

// verdict is what can be said of a request of which not everything is known.
type verdict struct {
	decision           policy.Decision // when what is not known is empty
	mayAllow, mayDeny  bool            // both: it depends
	allows, asks, bars []*line         // the lines of each kind that it depends on
	surely             bool            // some allow line holds whatever is not known
}

// judge asks the policy about a request and says whether the answer is the same whatever is not among the known facts. A line
// that looks at anything else may hold or not; there are no finer guesses.
func (s *Site) judge(r policy.Request, known facts) verdict {
	if s.isSettled(r.Path.String(), known) {
		d := s.Policy.Decide(r)
		return verdict{decision: d, mayAllow: d.Allowed, mayDeny: !d.Allowed}
	}
	e := s.Policy.Explain(r)
	v := verdict{decision: e.Decision}
	var denied, unmet bool
	for _, m := range e.Matched {
		l := s.byText[m.Rule]
		if l == nil || l.shadow || !l.admits(r.Who, known) {
			continue
		}
		open := l.needed&^known != 0
		switch l.kind {
		case kindAllow:
			v.surely = v.surely || m.Holds && !open
			v.allows = with(v.allows, l, open)
		case kindDeny:
			denied = denied || m.Holds && !open
			v.bars = with(v.bars, l, open)
		case kindRequire:
			// Nobody's sign-in shows nothing.
			never := r.Who == nil && l.needed&(factSign|factDevice) != 0
			unmet = unmet || never || !m.Holds && !open
			v.asks = with(v.asks, l, open && !never)
		}
	}
	settled := len(v.allows)+len(v.asks)+len(v.bars) == 0
	switch reason := e.Decision.Reason; {
	case reason == policy.ReasonMethod || reason == policy.ReasonPath || reason == policy.ReasonNoPolicy || denied || unmet:
		v.mayDeny = true
	case settled:
		v.mayAllow, v.mayDeny = e.Decision.Allowed, !e.Decision.Allowed
	default:
		v.mayAllow = v.surely || len(v.allows) > 0
		v.mayDeny = !v.surely || len(v.asks)+len(v.bars) > 0
	}
	return v
}

// isSettled reports whether no line that could match the path looks at anything that is not known: to ask the policy is enough then,
// and much cheaper with many lines.
func (s *Site) isSettled(path string, known facts) bool {
	if strings.ContainsAny(path, "%;") {
		return false // a deny reads it in another way, or in several
	}
	return s.asked(path)&^known == 0
}

// asks remembers what the lines that concern a path have to know: the same few paths are asked for everybody.
type asks struct {
	mu sync.Mutex
	of map[string]facts
}

// maxAsks bounds the memory.
const maxAsks = 1 << 14

func (s *Site) asked(path string) (needed facts) {
	if s.asks == nil { // a site without lines
		return 0
	}
	s.asks.mu.Lock()
	defer s.asks.mu.Unlock()
	needed, known := s.asks.of[path]
	if known {
		return needed
	}
	split := segments(path)
	for i := range s.lines {
		if l := &s.lines[i]; l.needed != 0 && !l.shadow && l.meets(split) {
			needed |= l.needed
		}
	}
	if len(s.asks.of) >= maxAsks {
		clear(s.asks.of)
	}
	s.asks.of[path] = needed
	return needed
}

func with(lines []*line, l *line, open bool) []*line {
	if !open || slices.Contains(lines, l) {
		return lines
	}
	return append(lines, l)
}

// depends are the lines that decide between yes and no.
func (v verdict) depends() []*line {
	lines := slices.Concat(v.asks, v.bars)
	if !v.surely {
		lines = append(lines, v.allows...)
	}
	return lines
}

// isStepUp reports whether a new sign-in alone can bring the yes.
func (v verdict) isStepUp() bool {
	return len(v.bars) == 0 && !slices.ContainsFunc(v.depends(), func(l *line) bool {
		return len(l.conditions) == 0 || l.needed&^(factSign|factTime) != 0 || slices.ContainsFunc(l.conditions, func(w words) bool { return w.key == "hours" || w.key == "when" })
	})
}

// note says on what a verdict depends: what one of the allow lines asks, what every require line asks, what no deny may meet.
func (s *Site) note(v verdict) string {
	var either, all []string
	if !v.surely {
		for _, l := range v.allows {
			either = append(either, s.conditions(l))
		}
		slices.Sort(either)
		all = append(all, strings.Join(slices.Compact(either), ", or "))
	}
	for _, l := range v.asks {
		all = append(all, s.conditions(l))
	}
	for _, l := range v.bars {
		all = append(all, "not "+s.conditions(l))
	}
	all = slices.DeleteFunc(all, func(text string) bool { return text == "" })
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "; and ")
}

// conditions are those of one line in words, with what the names of networks stand for.
func (s *Site) conditions(l *line) string {
	var out []string
	for _, w := range l.conditions {
		text := w.String()
		if w.key == "network" {
			text = w.key + " " + s.networks(w.values)
		}
		out = append(out, text)
	}
	return cmp.Or(strings.Join(out, " and "), "what the token is for")
}

// networks writes NAME as NAME=10.1.0.0/16, so that a change of what it stands for is one of the text.
func (s *Site) networks(values []string) string {
	var out []string
	for _, name := range strings.Split(strings.Join(values, ","), ",") {
		if prefixes, ok := s.network[name]; ok {
			var texts []string
			for _, p := range prefixes {
				texts = append(texts, p.String())
			}
			slices.Sort(texts)
			name += "=" + strings.Join(texts, "|")
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

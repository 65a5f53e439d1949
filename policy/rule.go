package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy/condition"
)

// kind is what a line does.
type kind uint8

const (
	kindAllow kind = iota
	kindDeny
	kindRequire
	kindGlass
	kindBudget
)

// String returns the word that begins such a line.
func (k kind) String() string {
	return [...]string{"allow", "deny", "require", "break_glass", "budget"}[k]
}

type who uint8

const (
	whoNone who = iota
	whoPublic
	whoAny
	whoSome      // its subjects
	whoScope     // tokens, narrowed by its subjects
	whoEverybody // of a require line
)

// rule is a line that was understood.
type rule struct {
	kind     kind
	shadow   bool
	who      who
	subjects []subject // all must hold, and each kind is there once at most
	device   bool      // a browser that is known
	scopes   []scope
	need     Need // what the sign-in has to show
	networks []span
	network  string // as it was written
	hours    *hours
	when     *condition.Condition
	methods  []string      // none: all
	patterns []string      // at least one; "/**" for a line without paths
	lasts    time.Duration // of a break_glass
	fresh    time.Duration // of a break_glass: how old the sign-in may be while the provider answers
	drill    bool          // of a break_glass
	budget   budget
	terms    []Term // the conditions as they were written
	words    string // the line as it was written
	at       string
	text     string // words with the place
}

// byWhat is what a subject is told by.
type byWhat uint8

const (
	byUser byWhat = iota
	byGroup
	byRole
	byOrg
	bySource
	subjectKinds
)

// String returns the word before its names.
func (b byWhat) String() string { return [...]string{"user", "group", "role", "org", "idp"}[b] }

// subject is a list of names, one of which somebody has to have.
type subject struct {
	by     byWhat
	names  []string
	folded []string // the same in lower case
}

// has reports whether somebody is one of those who are named. fold ignores ASCII case, as a deny does.
func (s *subject) has(who *Subject, fold bool) bool {
	switch s.by {
	case byUser:
		return s.lists(who.Username, fold)
	case byOrg:
		return s.lists(who.Org, fold)
	case bySource:
		return s.lists(who.Source, fold)
	}
	names := who.Roles
	if s.by == byGroup {
		names = who.Groups
	}
	for _, name := range names {
		if s.lists(name, fold) {
			return true
		}
	}
	return false
}

func (s *subject) lists(name string, fold bool) bool {
	if name == "" {
		return false
	}
	if !fold {
		return slices.Contains(s.names, name)
	}
	for _, folded := range s.folded {
		if equalFold(folded, name) {
			return true
		}
	}
	return false
}

// isFor reports whether somebody is everything that the line names.
func (r *rule) isFor(who *Subject, fold bool) bool {
	for i := range r.subjects {
		if !r.subjects[i].has(who, fold) {
			return false
		}
	}
	return true
}

// names returns the names of one kind of subject.
func (r *rule) names(by byWhat) []string {
	for i := range r.subjects {
		if r.subjects[i].by == by {
			return r.subjects[i].names
		}
	}
	return nil
}

// lists reports whether the line is about the method.
func (r *rule) lists(method string) bool {
	return len(r.methods) == 0 || slices.Contains(r.methods, method) || method == "HEAD" && slices.Contains(r.methods, "GET")
}

// folds reports whether the line must not be dodged: its paths are compared without regard to case, escapes and a slash at the end.
func (r *rule) folds() bool {
	return r.kind == kindDeny || r.kind == kindRequire || r.kind == kindBudget
}

// plain reports whether nothing has to be looked at but method, path and one list of names.
func (r *rule) plain() bool {
	return len(r.subjects) <= 1 && !r.device && r.networks == nil && r.hours == nil && r.when == nil && r.need.isZero()
}

// name is the first words of the line.
func (r *rule) name() string {
	if r.shadow {
		return "shadow " + r.kind.String()
	}
	return r.kind.String()
}

// key is equal for two rules that say the same, in whatever order.
func (r *rule) key() string {
	sorted := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	var amr, subjects []string
	for _, list := range r.need.AMR {
		amr = append(amr, sorted(list)...)
	}
	for _, s := range r.subjects {
		subjects = append(subjects, s.by.String()+" "+strings.Join(sorted(s.names), ","))
	}
	when, hours := "", ""
	if r.when != nil {
		when = r.when.Text()
	}
	if r.hours != nil {
		hours = r.hours.text
	}
	return fmt.Sprintf("%t %s %d %q %t %q %q %q %d %q %q %q %q %q %d %d %t %+v", r.shadow, r.kind, r.who, sorted(subjects), r.device, sorted(r.scopeTexts()),
		sorted(r.need.ACR), amr, r.need.MaxAge, sorted(r.methods), sorted(r.patterns), sorted(strings.Split(r.network, ",")), hours, when, r.lasts, r.fresh, r.drill, r.budget)
}

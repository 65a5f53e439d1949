package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// Actor is somebody whom lines are about, made up for the report.
type Actor struct {
	Name string          `json:"name"` // as it is shown: "doctor", "user ann", "doctor + group ward7"
	Who  *policy.Subject `json:"-"`    // nil: nobody is signed in
}

// maxActors bounds a table. Lines with long lists of users would make it unreadable long before.
const maxActors = 200

// made are names that no line has, for whoever stands in the place of a variable.
type made struct {
	self, other, patient string
	claims               map[string]string
}

// newMade makes names that occur nowhere in the lines.
func newMade(sites ...*Site) made {
	taken := map[string]bool{}
	claims := map[string]string{}
	for _, s := range sites {
		for _, l := range s.lines {
			for _, w := range l.subjects {
				for _, name := range w.values {
					taken[lower(name)] = true
				}
			}
			for _, p := range l.patterns {
				for segment := range strings.SplitSeq(p, "/") {
					taken[lower(segment)] = true
					if name, ok := claimOf(segment); ok {
						claims[name] = ""
					}
				}
			}
		}
	}
	fresh := func(base string) string {
		name := base
		for i := 2; taken[name]; i++ {
			name = fmt.Sprint(base, i)
		}
		taken[name] = true
		return name
	}
	m := made{self: fresh("own"), other: fresh("x"), patient: fresh("own-patient"), claims: claims}
	for name := range claims {
		claims[name] = fresh("own-" + strings.ReplaceAll(name, "_", "-"))
	}
	return m
}

// claimOf reads "{claim.NAME}".
func claimOf(segment string) (string, bool) {
	name, ok := strings.CutPrefix(segment, "{claim.")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

// actors are nobody, somebody without any role, and everybody whom a line names; combinations as the lines have them.
func actors(m made, sites ...*Site) (list []Actor, more int) {
	if list = everybody(m, sites...); len(list) > maxActors {
		return list[:maxActors], len(list) - maxActors
	}
	return list, 0
}

// everybody is actors without a bound.
func everybody(m made, sites ...*Site) []Actor {
	list := []Actor{{Name: "anonymous"}, {Name: "signed in, no role", Who: m.somebody()}}
	var roles, others []Actor
	seen := map[string]bool{}
	add := func(subjects []words) {
		a := m.actor(subjects)
		if !seen[a.Name] {
			seen[a.Name] = true
			if len(subjects) == 1 && subjects[0].key == "role" {
				roles = append(roles, a)
			} else {
				others = append(others, a)
			}
		}
	}
	for _, s := range sites {
		for i := range s.lines {
			each(s.lines[i].subjects, nil, add)
		}
	}
	byName := func(a, b Actor) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(roles, byName)
	slices.SortFunc(others, byName)
	return slices.Concat(list, roles, others)
}

// each goes through all choices of one name of each subject, and through the roles on their own.
func each(subjects, chosen []words, yield func([]words)) {
	if len(subjects) == 0 {
		if len(chosen) > 0 {
			yield(chosen)
		}
		return
	}
	for _, name := range subjects[0].values {
		one := words{subjects[0].key, []string{name}}
		if one.key == "role" && len(chosen)+len(subjects) > 1 {
			yield([]words{one})
		}
		each(subjects[1:], append(slices.Clip(chosen), one), yield)
	}
}

func (m made) somebody() *policy.Subject {
	return &policy.Subject{Username: m.self, Claims: m.claims}
}

// actor is somebody of whom just that is true.
func (m made) actor(subjects []words) Actor {
	who := m.somebody()
	var names []string
	for _, w := range inOrder(subjects) {
		name := w.values[0]
		switch w.key {
		case "role":
			who.Roles = append(who.Roles, name)
			names = append(names, name)
			continue
		case "user":
			who.Username = name
		case "group":
			who.Groups = append(who.Groups, name)
		case "org":
			who.Org = name
		case "idp":
			who.Source = name
		case "scope":
			who.Bearer, who.Scopes, who.Patient = true, []string{name}, m.patient
		}
		names = append(names, w.key+" "+name)
	}
	return Actor{Name: strings.Join(names, " + "), Who: who}
}

// inOrder puts roles first, and the rest by their words, so that the same people have the same name.
func inOrder(subjects []words) []words {
	return slices.SortedFunc(slices.Values(subjects), func(a, b words) int {
		if (a.key == "role") != (b.key == "role") {
			if a.key == "role" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.String(), b.String())
	})
}

package report

import (
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
)

// A large site has a thousand routes for a hundred roles, and nearly all of these get the same answer at each of them. An answer hangs
// on the lines that can match the path, on which of their subjects name whoever asks, and on which of them list the method: where
// these are the same, one is asked for all. Where something else can matter (a name within the path, a token, a condition in CEL)
// nobody shares an answer, or only those of one name do.

// alike finds out who gets the same answers from two policies.
type alike struct {
	made   made
	sites  [2]*Site
	people []Actor
	names  []string
	// named says of each line and each person, a bit for each of the line's subjects, whether it names them.
	named map[*line][]byte
	apart bool // for tests: nobody shares an answer
}

// maxSubjects is how many subjects of a line have a bit.
const maxSubjects = 8

func newAlike(m made, a, b *Site, people []Actor, names []string) *alike {
	k := &alike{made: m, sites: [2]*Site{a, b}, people: people, names: names, named: map[*line][]byte{}}
	for _, s := range k.sites {
		for i := range s.lines {
			l := &s.lines[i]
			if len(l.subjects) == 0 || len(l.subjects) > maxSubjects {
				continue
			}
			bits := make([]byte, len(people))
			for j, p := range people {
				for at, w := range l.subjects {
					if p.Who != nil && w.names(p.Who, l.kind == kindDeny) {
						bits[j] |= 1 << at
					}
				}
			}
			k.named[l] = bits
		}
	}
	return k
}

// concerning are the lines that can match what is asked for at a route.
func (k *alike) concerning(route string) (lines []*line) {
	if !hasOwn(route) {
		route = k.made.concrete(route, nil, false)
	}
	paths := [][]string{segments(route)}
	if decoded, err := url.PathUnescape(route); err == nil && decoded != route {
		paths = append(paths, segments(decoded)) // a deny reads it so
	}
	for _, s := range k.sites {
		several := s.reads.exceptions != (reading{}).exceptions // such a path can have more readings
		for i := range s.lines {
			l := &s.lines[i]
			if several || slices.ContainsFunc(paths, l.meets) {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// classes gives each person, and each method, the number of the first who gets the same answers at a route.
func (k *alike) classes(route string) (people, names []int) {
	lines := k.concerning(route)
	byName, byAll := hasOwn(route), k.apart
	for _, l := range lines {
		byName = byName || slices.ContainsFunc(l.patterns, hasOwn)
		byAll = byAll || len(l.subjects) > maxSubjects || slices.ContainsFunc(l.conditions, func(w words) bool {
			return !slices.Contains([]string{"network", "hours", "acr", "amr", "max_age"}, w.key)
		})
	}
	people, names = make([]int, len(k.people)), make([]int, len(k.names))
	first := map[string]int{}
	var key []byte
	number := func(i int) int {
		n, ok := first[string(key)]
		if !ok {
			n = i
			first[string(key)] = i
		}
		return n
	}
	for i, p := range k.people {
		if key = key[:0]; byAll || p.Who == nil || p.Who.Bearer {
			people[i] = i
			continue
		}
		for _, l := range lines {
			if bits := k.named[l]; bits != nil {
				key = append(key, bits[i])
			}
		}
		if byName {
			key = append(key, p.Who.Username...)
		}
		people[i] = number(i)
	}
	clear(first)
	for i, method := range k.names {
		key = binary.AppendUvarint(key[:0], uint64(k.unknown(method)))
		for _, l := range lines {
			key = append(key, '0')
			if l.lists(method) {
				key[len(key)-1] = '1'
			}
		}
		if names[i] = number(i); byAll {
			names[i] = i
		}
	}
	return people, names
}

// unknown says which of the two policies do not know a method.
func (k *alike) unknown(method string) (bits int) {
	for i, s := range k.sites {
		if s.Policy == nil || !s.Policy.Knows(method) {
			bits |= 1 << i
		}
	}
	return bits
}

// lists reports whether the line is about a method.
func (l *line) lists(method string) bool {
	return len(l.methods) == 0 || slices.Contains(l.methods, method) || method == "HEAD" && slices.Contains(l.methods, "GET")
}

// segments are those of a pattern as overlap compares them: ASCII case and a slash at the end aside.
func segments(pattern string) []string { return strings.Split(strings.Trim(lower(pattern), "/"), "/") }

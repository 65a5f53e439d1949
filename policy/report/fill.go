package report

import (
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// A record has the shape of a path and not the path: these make the paths, and the people, that it can have been.

// maxReadings bounds in how many ways the places of a shape that are not recorded are filled.
const maxReadings = 128

// fill makes paths of a shape: each * stands for every name that a line has at that place and for one that none has, and never for
// the person's own, which the log tells. false when these are too many, or the path was longer than its shape.
func (s *Site) fill(m made, shape, username string) (paths []string, ok bool) {
	segments := strings.Split(strings.TrimPrefix(shape, "/"), "/")
	paths = []string{""}
	for i, segment := range segments {
		choices := []string{segment}
		switch segment {
		case "{user}":
			choices = []string{escape(username)}
		case "*":
			choices = s.names(m, segments[:i])
		case "**":
			return nil, false
		}
		var next []string
		for _, path := range paths {
			for _, choice := range choices {
				next = append(next, path+"/"+choice)
			}
		}
		if paths = next; len(paths) > maxReadings {
			return nil, false
		}
	}
	return paths, true
}

// names are what can matter at the place after some segments of a shape.
func (s *Site) names(m made, before []string) []string {
	list := []string{m.other}
	for _, l := range s.lines {
		for _, pattern := range l.patterns {
			segments := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
			if len(segments) <= len(before) || !fits(segments, before) {
				continue
			}
			if at := segments[len(before)]; weight(at) == 0 && at != "" {
				list = append(list, at)
			}
		}
	}
	slices.Sort(list[1:])
	return slices.Compact(list)
}

// fits reports whether the first segments of a pattern can match those of a shape.
func fits(pattern, shape []string) bool {
	for i, segment := range shape {
		switch {
		case pattern[i] == "**":
			return false // and nothing comes after it
		case weight(pattern[i]) == 0 && segment != "*" && segment != "{user}" && lower(pattern[i]) != lower(segment):
			return false
		}
	}
	return true
}

// people are who asks, and the same with the claims, and with a token's patient, by which some pattern would match the path.
func (s *Site) people(who *policy.Subject, path string) []*policy.Subject {
	list := []*policy.Subject{who}
	if who == nil {
		return list
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, l := range s.lines {
		for _, pattern := range l.patterns {
			it := *who
			it.Claims = map[string]string{}
			for i, p := range strings.Split(strings.TrimPrefix(pattern, "/"), "/") {
				name, isClaim := claimOf(p)
				switch {
				case i >= len(segments):
				case isClaim:
					it.Claims[name] = segments[i]
				case p == "{patient}" && it.Bearer:
					it.Patient = segments[i]
				}
			}
			if len(it.Claims) > 0 || it.Patient != "" {
				list = append(list, &it)
			}
		}
	}
	return list
}

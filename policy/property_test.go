package policy

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// naive is the language of the design once more, written without a tree: every line is tried on every request.
func naive(texts []string, method, path string, who *Subject) (allowed, denied bool) {
	for _, text := range texts {
		words := strings.Fields(text)
		deny := words[0] == "deny"
		equal := func(a, b string) bool { return a == b }
		if deny {
			equal = func(a, b string) bool { return lower(a) == lower(b) }
		}
		rest := words[2:]
		var names []string
		if words[1] == "role" || words[1] == "user" {
			names, rest = strings.Split(rest[0], ","), rest[1:]
		}
		hit := false
		switch words[1] {
		case "public":
			hit = true
		case "any":
			hit = who != nil
		case "role":
			hit = who != nil && slices.ContainsFunc(names, func(n string) bool { return slices.ContainsFunc(who.Roles, func(r string) bool { return equal(n, r) }) })
		case "user":
			hit = who != nil && who.Username != "" && slices.ContainsFunc(names, func(n string) bool { return equal(n, who.Username) })
		}
		if len(rest) > 0 && rest[0][0] != '/' {
			methods := strings.Split(rest[0], ",")
			hit = hit && (slices.Contains(methods, method) || method == "HEAD" && slices.Contains(methods, "GET"))
			rest = rest[1:]
		}
		if len(rest) == 0 {
			rest = []string{"/**"}
		}
		hit = hit && slices.ContainsFunc(rest, func(pattern string) bool { return naiveMatch(pattern, path, who, deny, equal) })
		allowed, denied = allowed || hit && !deny, denied || hit && deny
	}
	return allowed, denied
}

func naiveMatch(pattern, path string, who *Subject, deny bool, equal func(a, b string) bool) bool {
	if deny && path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	if deny && pattern != "/" {
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
		case w != "*" && w != "{user}" && !deny && w == have[i]:
		case w != "*" && w != "{user}" && deny && equal(w, decoded):
		default:
			return false
		}
	}
	return len(have) == len(want)
}

func TestDecideEqualsNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	many := func(max int, sep string, list ...string) string {
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return strings.Join(list[:1+rng.IntN(max)], sep)
	}
	pattern := func() string {
		var b strings.Builder
		for range 1 + rng.IntN(4) {
			b.WriteString("/" + pick("a", "b", "A", "x.y", "*", "{user}", "a", "b"))
		}
		b.WriteString(pick("", "", "", "/", "/**"))
		return pick(b.String(), b.String(), b.String(), "/", "/**")
	}
	allowed, denied := 0, 0
	for range 3000 {
		texts, seen := []string{"allow user zoe /only/zoe"}, map[string]bool{}
		for range 1 + rng.IntN(8) {
			who := pick("public", "any", "role "+many(2, ",", "r1", "r2", "R1"), "user "+many(2, ",", "a", "b", "A", "q"))
			text := pick("allow ", "allow ", "deny ") + who
			text += pick("", " "+many(3, ",", "GET", "HEAD", "POST", "PROPFIND"))
			for range rng.IntN(3) {
				p := pattern()
				if !seen[text+p] && !strings.Contains(text+p, "public") {
					text += " " + p
				}
				seen[text+p] = true
			}
			texts = append(texts, text)
		}
		p, err := Compile(lines(texts...))
		if err != nil {
			continue // the same line or path twice
		}
		for range 20 {
			path := ""
			for range 1 + rng.IntN(5) {
				path += "/" + pick("a", "b", "A", "B", "%61", "%41", "x.y", "c", "a%20b")
			}
			path = pick(path, path, path, path+"/", "/")
			method := pick("GET", "HEAD", "POST", "DELETE", "PROPFIND")
			var who *Subject
			if rng.IntN(5) > 0 {
				who = &Subject{Username: pick("a", "b", "A", "", "q"), Roles: strings.Split(many(2, ",", "r1", "r2", "R1", "none"), ",")}
			}
			d := p.Decide(Request{Method: method, Path: parse(t, path), Who: who})
			a, x := naive(texts, method, path, who)
			if !p.Knows(method) {
				a, x = false, false
			}
			if d.Allowed != (a && !x) || (d.Reason == ReasonDenied) != x || d.Allowed && d.Rule == "" {
				t.Fatalf("%s %s %+v\n%s\n%+v, naive: allowed %t, denied %t", method, path, who, strings.Join(texts, "\n"), d, a, x)
			}
			if d.Allowed {
				allowed++
			} else if x {
				denied++
			}
		}
	}
	if allowed < 1000 || denied < 1000 {
		t.Errorf("the test sees too little: %d allowed, %d denied", allowed, denied)
	}
}

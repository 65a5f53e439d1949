package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// everyName is what the configuration of the table gives.
var everyName = Config{Roles: []string{"doctor", "nurse", "patient", "admin"}, Groups: []string{"ward3", "ward4"}, Sources: []string{"hospital", "clinic"}, Claims: []string{"dept", "ward"}}

// findings are all that is wrong with a policy, as "error|warning place: text".
func findings(c Config, texts ...string) (all []string) {
	c.Lines = ruleLines(texts...)
	p, err := New(c)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			all = append(all, "error "+err.Error())
		}
		return all
	}
	for _, w := range p.Warnings() {
		all = append(all, "warning "+w.Error())
	}
	return all
}

// TestJudgement: each case has its lines and the one finding that there is, "" for none. The number is the line's.
func TestJudgement(t *testing.T) {
	for _, c := range []struct {
		want  string
		lines []string
	}{
		// Names.
		{"", []string{"allow role doctor,nurse,patient /x", "allow group ward3,ward4 /y", "allow idp clinic /z", "allow org anything /o", "allow user anybody /u"}},
		{"warning 1: nothing gives anybody the role \"docter\"; write `doctor`", []string{"allow role docter /x"}},
		{"warning 1: nothing gives anybody the role \"Doctor\"; write `doctor`", []string{"allow role Doctor /x"}},
		{"warning 1: nothing gives anybody the role \"surgeon\"; write one of `admin`, `doctor`, `nurse`, `patient`, or `role NAME from", []string{"allow role surgeon /x"}},
		{"warning 1: nothing gives anybody the role \"nurze\"", []string{"allow role doctor,nurze /x"}},
		{"", []string{"deny role DOCTOR /x", "allow any"}},
		{"error 1: nothing gives anybody the role \"docter\"", []string{"deny role docter /x", "allow any"}},
		{"warning 1: nothing gives anybody the group \"ward33\"; write `ward3`", []string{"allow group ward33 /x"}},
		{"warning 1: nothing gives anybody the idp \"Clinic\"; write `clinic`", []string{"allow idp Clinic /x"}},
		{"warning 2: nothing gives anybody the role \"docter\"", []string{"allow any /y", "break_glass role docter on /x/* for 5m"}},
		{"error 2: nothing gives anybody the role \"docter\"", []string{"allow any /x/{id}", "budget role docter 5 distinct {id} per 1h"}},
		{"warning 2: nothing gives anybody the role \"docter\"", []string{"allow role doctor", "shadow deny role docter /x"}},
		{"error 1: no identity source has a claim \"dep\", so that {claim.dep} equals no segment; write `dept`", []string{"allow any /x/{claim.dep}"}},
		{"warning 1: nothing gives anybody the role \"docter\", with which the expression compares; write `doctor`", []string{"allow any /x when `\"docter\" in user.roles`"}},
		{"warning 1: nothing gives anybody the group \"w\"", []string{"allow any /x when `user.groups.exists(g, g == \"x\") || \"w\" in user.groups`"}},
		{"warning 1: nothing gives anybody the idp \"klinic\"", []string{"allow any /x when `user.idp != \"klinic\"`"}},
		{"error 1: column 1 of the expression: no identity source has a claim \"dep\"; write `claim.dept`", []string{"allow any /x when `claim.dep == \"x\"`"}},

		// Variables.
		{"", []string{"allow any /x/{user}/{id}/{claim.dept}", "allow role doctor /patients/{patient}/**"}},
		{"error 1: {usr} is any segment, not that of who is asking; write `{user}` for the username", []string{"allow any /x/{usr}"}},
		{"error 1: {uesr} is any segment", []string{"allow any /x/{uesr}/**"}},
		{"error 1: the path \"/x/{username}\" has a variable that would match anybody's", []string{"allow any /x/{username}"}},
		{"error 1: {patiant} is any segment, not the token's patient; write `{patient}`", []string{"allow scope openid GET /x/{patiant}"}},
		{"warning 1: {dept} is any segment, not that of who is asking; write `{claim.dept}`", []string{"allow any /x/{dept}"}},
		{"", []string{"allow any /x/{dept} when `path.dept == claim.dept`"}},
		{"error 1: column 1 of the expression: the paths of the line have no {idd}; write `path.id`", []string{"allow any /x/{id} when `path.idd == \"7\"`"}},
		{"error 2: the path \"/y\" has no {id}", []string{"allow any /x/{id}", "budget role doctor 5 distinct {id} per 1h on /y"}},

		// Lines that change nothing.
		{"warning 2: it changes nothing beside `allow any` (Caddyfile:1)", []string{"allow any", "allow role doctor /x"}},
		{"warning 1: it changes nothing beside `allow any` (Caddyfile:2)", []string{"allow role doctor /x", "allow any"}},
		{"warning 2: it changes nothing beside `allow public /x/**`", []string{"allow public /x/**", "allow any /x/y"}},
		{"", []string{"allow public /x/**", "allow any /y"}},
		{"warning 2: it changes nothing beside `allow role doctor,nurse GET /x/**`", []string{"allow role doctor,nurse GET /x/**", "allow role nurse HEAD /x/a/*"}},
		{"", []string{"allow role doctor,nurse HEAD /x/**", "allow role nurse GET /x/a/*"}},
		{"warning 3: it changes nothing beside `allow role doctor /x/**` (Caddyfile:1) and `allow role nurse /x/**` (Caddyfile:2)", []string{"allow role doctor /x/**", "allow role nurse /x/**", "allow role doctor,nurse /x/y"}},
		{"warning 3: it changes nothing beside", []string{"allow role doctor GET /x", "allow role doctor POST /x", "allow role doctor GET,POST /x"}},
		{"warning 2: it changes nothing beside `allow role doctor /x/{id}`", []string{"allow role doctor /x/{id}", "allow role doctor /x/*"}},
		{"warning 2: it changes nothing beside `allow role doctor /x/*`", []string{"allow role doctor /x/*", "allow role doctor /x/{user}"}},
		{"", []string{"allow role doctor /x/{user}", "allow role doctor /x/{claim.dept}"}},
		{"warning 2: it changes nothing", []string{"allow role doctor", "allow role doctor group ward3 /x"}},
		{"", []string{"allow role doctor group ward3", "allow role doctor org a /x"}},
		{"", []string{"allow role doctor group ward3 /x", "allow role doctor group ward4 /x"}},
		{"", []string{"allow role doctor /X", "allow role doctor /x"}},
		{"", []string{"allow any /x/*", "allow role doctor /x/ /x"}},
		{"warning 2: it changes nothing", []string{"allow any /x/**", "allow role doctor /x/ /x"}},
		{"warning 2: it changes nothing", []string{"allow any GET", "allow role doctor GET,HEAD /x"}},
		{"warning 2: it changes nothing", []string{"allow any hours 22:00-06:00 UTC", "allow role doctor hours 01:00-02:00 UTC"}},
		{"warning 2: it changes nothing", []string{"allow any hours sat 22:00-06:00 UTC", "allow role doctor hours sun 01:00-02:00 UTC"}},
		{"", []string{"allow any hours mon 22:00-06:00 UTC", "allow role doctor hours mon 01:00-02:00 UTC"}},
		{"warning 2: it changes nothing", []string{"allow role doctor /x network 10.0.0.0/8", "allow role doctor /x network 10.1.0.0/16"}},
		{"", []string{"allow role doctor /x network 10.0.0.0/8", "allow role doctor /x network 192.168.0.0/16"}},
		{"warning 2: it changes nothing", []string{"allow role doctor /x hours mon-fri 07:00-19:00 UTC", "allow role doctor /x hours mon 08:00-09:00 UTC"}},
		{"", []string{"allow role doctor /x hours mon-fri 07:00-19:00 UTC", "allow role doctor /x hours mon 08:00-09:00 Europe/Brussels"}},
		{"warning 2: it changes nothing", []string{"allow any /x when `request.query == \"\"`", "allow role doctor /x when `request.query == \"\"`"}},
		{"", []string{"allow any /x when `request.query == \"\"`", "allow role doctor /x when `request.query != \"a\"`"}},
		{"", []string{"allow any /x/{a}/* when `path.a == \"1\"`", "allow any /x/*/{a} when `path.a == \"1\"`"}},
		{"", []string{"allow role doctor /x acr mfa", "allow role doctor /x/y"}},
		{"warning 1: what it asks of the sign-in nobody needs, since `allow role doctor /x` (Caddyfile:2) allows the same without", []string{"allow role doctor /x acr mfa", "allow role doctor /x"}},
		{"warning 3: it changes nothing beside `deny any /x/**`", []string{"allow any", "deny any /x/**", "deny role doctor /X/y"}},
		{"warning 2: it changes nothing beside `deny public /x/**`", []string{"deny public /x/**", "deny user eve /x", "allow any"}},
		{"", []string{"deny role doctor /x/**", "deny user eve /x", "allow any"}},
		{"warning 2: it changes nothing beside `require acr mfa`", []string{"require acr mfa", "require acr mfa,low /x", "allow any"}},
		{"warning 2: it changes nothing beside `require max_age 5m`", []string{"require max_age 5m", "require max_age 1h /x", "allow any"}},
		{"", []string{"require max_age 1h", "require max_age 5m /x", "allow any"}},
		{"warning 2: it changes nothing beside `require network 10.0.0.0/8`", []string{"require network 10.0.0.0/8", "require network 10.0.0.0/8,192.168.0.0/16 /x", "allow any"}},
		{"warning 2: there is nothing to break, since `allow role doctor` (Caddyfile:1) allows all of it", []string{"allow role doctor", "break_glass role doctor on /x/* for 5m"}},
		{"warning 3: it changes nothing beside `break_glass role doctor,nurse on /x/* for 5m`", []string{"allow role patient", "break_glass role doctor,nurse on /x/* for 5m", "break_glass role nurse on /x/* for 5m"}},
		{"warning 2: it changes nothing beside `allow role doctor`", []string{"allow role doctor", "shadow allow role doctor /x"}},
		{"warning 2: it changes nothing beside `allow scope openid,x:y GET /x/**`", []string{"allow scope openid,x:y GET /x/**", "allow scope openid GET /x/y"}},
		{"", []string{"allow scope patient/Observation.rs GET /x/**", "allow scope patient/Observation.rs GET /x/{patient}"}},
		{"", []string{"allow any /x/**", "allow scope openid GET /x/y"}},

		// Lines that another one takes back, or that nobody can meet.
		{"error 2: it allows nothing, since `deny any /x/**` (Caddyfile:1) denies all of it", []string{"deny any /x/**", "allow role doctor /x/y", "allow any /z"}},
		{"error 1: it allows nothing, since `deny role doctor,nurse /x` (Caddyfile:2)", []string{"allow role nurse /X/", "deny role doctor,nurse /x", "allow any /z"}},
		{"error 1: it allows nothing, since `deny role doctor` (Caddyfile:2) and `deny role nurse` (Caddyfile:3)", []string{"allow role doctor,nurse", "deny role doctor", "deny role nurse"}},
		{"", []string{"deny role doctor /x/**", "allow role doctor,nurse /x/y"}},
		{"", []string{"deny role doctor POST /x/**", "allow role doctor /x/y"}},
		{"", []string{"deny any /x/** network 10.0.0.0/8", "allow role doctor /x/y"}},
		{"error 2: it allows nothing", []string{"deny any /x/** network 10.0.0.0/8", "allow role doctor /x/y network 10.1.0.0/16", "allow any /z"}},
		{"error 2: it allows nothing", []string{"deny any /x/**", "allow scope openid GET /x/y", "allow any /z"}},
		{"error 2: it opens nothing, since `deny public /x/**`", []string{"deny public /x/**", "break_glass role doctor on /x/* for 5m", "allow any /z"}},
		{"error 2: nobody meets this and `require network 10.0.0.0/8` (Caddyfile:1) at once: no address is in the networks of both", []string{"require network 10.0.0.0/8", "allow role doctor /x network 192.168.0.0/16", "allow any /z"}},
		{"error 2: nobody meets this and `require hours mon-fri 07:00-19:00 UTC` (Caddyfile:1) at once: no moment", []string{"require hours mon-fri 07:00-19:00 UTC", "allow role doctor /x hours sat,sun 07:00-19:00 UTC", "allow any /z"}},
		{"error 2: nobody meets this and `require acr mfa /x` (Caddyfile:1) at once: no level", []string{"require acr mfa /x", "allow role doctor /x acr low", "allow any /z"}},
		{"error 2: nobody meets this and `require device known` (Caddyfile:1) at once: an application with a token", []string{"require device known", "allow scope openid GET /x", "allow any /z"}},
		{"error 2: nobody meets this and `require network 10.0.0.0/8 /x/**` (Caddyfile:1) at once: no address", []string{"require network 10.0.0.0/8 /x/**", "require network 192.168.0.0/16 /x/y", "allow any"}},
		{"error 2: nobody meets this and `require hours 07:00-12:00 UTC /x/**`", []string{"require hours 07:00-12:00 UTC /x/**", "require hours 12:00-19:00 UTC /x/y", "allow any"}},
		{"", []string{"require hours 07:00-12:00 UTC /x/**", "require hours 12:00-19:00 UTC /y", "allow any"}},
		{"error 1: the expression is never true, so that the line never matches", []string{"allow any /x when `1 > 2`", "allow any /y"}},
		{"error 1: the expression is never true, so that the line never matches", []string{"deny any /x when `false`", "allow any"}},
		{"error 1: the expression is never true, so that this closes all", []string{"require when `false` /x", "allow any"}},

		// What is public although another line closes it.
		{"error 1: it opens to everybody what `deny role doctor /x/y` (Caddyfile:2) closes: whoever signs out gets in", []string{"allow public /x/**", "deny role doctor /x/y"}},
		{"error 1: it opens to everybody what `deny any /x/y`", []string{"allow public", "deny any /x/y"}},
		{"", []string{"allow public /x/**", "deny public /x/y"}},
		{"", []string{"allow public GET /x/**", "deny any POST /x/y"}},
		{"", []string{"allow public /assets/**", "deny role patient", "allow any"}},
		{"", []string{"allow public /app/login", "deny role patient /app/**", "allow any /app/**"}},
		{"warning 1: it opens to everybody some of what `deny role patient /*/secret`", []string{"allow public /x/**", "deny role patient /*/secret", "allow any /y/**"}},
		{"warning 1: it opens to everybody some of", []string{"allow public /x/** network 10.0.0.0/8", "deny role patient /x/y", "allow any /x/**"}},
		{"", []string{"allow public /x/**", "deny public /x/y", "deny role doctor /z", "allow any /z"}},
		{"warning 2: `require max_age 8h` (Caddyfile:1) asks for a session, so that this is not public", []string{"require max_age 8h", "allow public /x", "allow any /y"}},
		{"", []string{"require network 10.0.0.0/8", "allow public /x"}},

		// Parts that change nothing.
		{"warning 1: no line allows anything that it is about", []string{"require acr mfa /y", "allow any /x"}},
		{"warning 1: no line allows anything that it is about", []string{"require acr mfa POST /x", "allow any GET /x"}},
		{"warning 1: no line allows anything that it is about", []string{"budget any 5 distinct {id} per 1h on /y/{id}", "allow any /x"}},
		{"", []string{"require acr mfa /X/", "allow any /x"}},
		{"", []string{"require acr mfa /x/{user}", "allow any /x/*"}},
		{"", []string{"deny any /closed/**", "allow role doctor /x"}},
		{"warning 1: these hours are all hours", []string{"allow any hours 00:00-24:00 UTC"}},
		{"warning 1: these hours are all hours", []string{"allow any hours 19:00-07:00,07:00-19:00 UTC"}},
		{"warning 1: these hours are all hours", []string{"allow any hours 00:00-12:00,12:00-24:00 UTC"}},
		{"", []string{"allow any hours mon-sat 00:00-24:00 UTC"}},
		{"warning 1: this network is every address", []string{"allow any network 0.0.0.0/0,::/0"}},
		{"", []string{"allow any network 0.0.0.0/0"}},
		{"warning 1: the expression is always true", []string{"allow any when `true`"}},
		{"warning 1: getHours() without a zone is in UTC; write the zone", []string{"allow any when `request.time.getHours() < 20`"}},
	} {
		all := findings(everyName, c.lines...)
		name := strings.Join(c.lines, " | ")
		if c.want == "" {
			if len(all) > 0 {
				t.Errorf("%s\n\t%s", name, strings.Join(all, "\n\t"))
			}
			continue
		}
		level, rest, _ := strings.Cut(c.want, " ")
		number, text, _ := strings.Cut(rest, ": ")
		if len(all) != 1 || !strings.HasPrefix(all[0], level+" Caddyfile:"+number+": `") || !strings.Contains(all[0], text) {
			t.Errorf("%s\n\t%s\n\twant %s", name, strings.Join(all, "\n\t"), c.want)
		}
	}
}

// TestJudgementIsWhole: all findings come at once, errors and warnings, in the order of the lines, and also beside lines that are not
// understood; names that are not known are not judged.
func TestJudgementIsWhole(t *testing.T) {
	c := everyName
	c.Lines = ruleLines("deny role docter /x", "deny any /y", "allow role nurse /y", "allow roles x", "allow any /z hours 00:00-24:00 UTC", "allow any /{usr}")
	_, err := New(c)
	var all []string
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var p *Problem
		if !errors.As(err, &p) || p.Warn || p.Reason == "" || p.Line == "" || p.Wrong == "" || p.Write == "" {
			t.Errorf("%#v", err)
		}
		all = append(all, p.At+" "+p.Reason)
	}
	if got := strings.Join(all, ", "); got != "Caddyfile:4 who, Caddyfile:1 unknown, Caddyfile:3 contradiction, Caddyfile:6 variable" {
		t.Error(got)
	}
	if all := findings(Config{}, "allow role docter /x", "allow any /{claim.dep}"); len(all) > 0 {
		t.Error(all)
	}
	if all := findings(Config{Roles: []string{}}, "allow role doctor"); len(all) != 1 {
		t.Error(all)
	}
	if _, err := Compile(ruleLines("deny any /y", "allow role nurse /y")); err != nil {
		t.Errorf("Compile judges: %v", err)
	}
}

// TestJudgementIsQuick: the time to judge grows with the lines, not with their pairs.
func TestJudgementIsQuick(t *testing.T) {
	var texts []string
	for i := range 10000 {
		switch i % 10 {
		case 0:
			texts = append(texts, fmt.Sprintf("deny user u%d /api/v%d/**", i, i%7))
		case 1:
			texts = append(texts, fmt.Sprintf("allow role patient GET /portal%d/{user}/**", i))
		case 2:
			texts = append(texts, fmt.Sprintf("allow user u%d", i))
		case 3:
			texts = append(texts, fmt.Sprintf("require acr a /api/v%d/patients/*/c%d", i%7, i))
		default:
			texts = append(texts, fmt.Sprintf("allow role r%d GET,POST /api/v%d/patients/*/charts/c%d", i%50, i%7, i))
		}
	}
	if found := judgeQuickly(t, texts); len(found) > 0 {
		t.Errorf("%d findings: %v", len(found), found[0])
	}
	texts = nil
	for i := range 2500 {
		texts = append(texts, fmt.Sprintf("require amr otp /r/%d", i), fmt.Sprintf("allow any /a/%d", i))
	}
	found := judgeQuickly(t, texts)
	if last := found[len(found)-1]; !last.Warn || !strings.Contains(last.Wrong, "too many lines to compare") {
		t.Errorf("what is not compared is not said: %v", last)
	}
}

func judgeQuickly(t *testing.T, texts []string) []*Problem {
	t.Helper()
	c := Config{Lines: ruleLines(texts...)}
	rules, problems := readLines(&c)
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	begun := cpu(t)
	found := judge(&c, rules)
	if took := cpu(t) - begun; took > 60*time.Second { // with the race detector; 10,000 lines are 50 million pairs
		t.Errorf("%d lines take %v", len(texts), took)
	}
	return found
}

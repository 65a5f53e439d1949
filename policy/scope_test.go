package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// token is the holder of an access token.
func token(patient string, scopes ...string) *Subject {
	return &Subject{Username: "app", Roles: []string{"lab"}, Bearer: true, Scopes: scopes, Patient: patient}
}

// ask is one question with a query; the reason decides.
type ask struct {
	who            *Subject
	method, target string
	reason         string
}

func checkAsks(t *testing.T, p *Policy, asks []ask) {
	t.Helper()
	for _, a := range asks {
		path, query, _ := strings.Cut(a.target, "?")
		d := p.Decide(Request{Method: a.method, Path: parse(t, path), Query: query, Who: a.who, Now: noon})
		if d.Reason != a.reason || d.Allowed != (a.reason == ReasonAllowed) {
			t.Errorf("%+v %s %s: %+v, want %s", a.who, a.method, a.target, d, a.reason)
		}
	}
}

// TestRow67 Scope and subject both decide.
func TestRow67(t *testing.T) {
	p := compile(t, "allow scope notes.read GET /notes/**", "allow scope notes.write role lab POST,PUT /notes/**", "allow scope own GET /own/{user}", "allow scope u user app,bot GET /u",
		"allow any /session/**", "allow role lab /role", "allow user app /user", "allow public /open")
	read, other := token("", "notes.read", "openid"), &Subject{Username: "eve", Bearer: true, Scopes: []string{"notes.write", "u", "own"}}
	checkAsks(t, p, []ask{
		{read, "GET", "/notes/1", ReasonAllowed}, {read, "HEAD", "/notes/1", ReasonAllowed}, {read, "POST", "/notes/1", ReasonScope},
		{token("", "notes.write"), "POST", "/notes/1", ReasonAllowed}, {other, "POST", "/notes/1", ReasonNoRule}, // the wrong subject
		{token(""), "GET", "/notes/1", ReasonScope}, {token("", "Notes.Read"), "GET", "/notes/1", ReasonScope}, {token("", "notes.read "), "GET", "/notes/1", ReasonScope}, {token("", "notes.rea", "d"), "GET", "/notes/1", ReasonScope},
		{token("", "own"), "GET", "/own/app", ReasonAllowed}, {other, "GET", "/own/app", ReasonNoRule}, {token("", "u"), "GET", "/u", ReasonAllowed}, {other, "GET", "/u", ReasonNoRule},
		{&Subject{Bearer: true, Scopes: []string{"u"}}, "GET", "/u", ReasonNoRule},
		{nil, "GET", "/notes/1", ReasonNoSession}, {token("", "notes.read"), "GET", "/open", ReasonAllowed},
		// A session has no scopes, whatever its claims say.
		{&Subject{Username: "app", Roles: []string{"lab"}, Scopes: []string{"notes.read", "notes.write"}}, "GET", "/notes/1", ReasonNoRule},
		// Row 76: a token is nobody's presence.
		{read, "GET", "/session/x", ReasonNoRule}, {read, "GET", "/role", ReasonNoRule}, {read, "GET", "/user", ReasonNoRule},
	})
	d := p.Decide(Request{Method: "POST", Path: parse(t, "/notes/1"), Who: read})
	if !reflect.DeepEqual(d.Scopes, []string{"notes.write"}) || d.Rule != "allow scope notes.write role lab POST,PUT /notes/** (Caddyfile:2)" || d.Route != "/notes/**" {
		t.Errorf("%+v", d)
	}
}

// A deny holds for tokens as for anybody.
func TestDenyHoldsForTokens(t *testing.T) {
	p := compile(t, "allow scope x", "deny any /any", "deny role LAB /role", "deny user App /user", "deny public /public", "deny any /home/{user}")
	for _, target := range []string{"/any", "/ANY/", "/role", "/user", "/public", "/home/APP"} {
		checkAsks(t, p, []ask{{token("", "x"), "GET", target, ReasonDenied}})
	}
	checkAsks(t, p, []ask{{token("", "x"), "GET", "/else", ReasonAllowed}, {token("", "x"), "GET", "/home/bob", ReasonAllowed}})
}

// TestRow74 SMART scopes: grammar, order of letters, version 1, wildcards, constraints.
func TestRow74(t *testing.T) {
	for want, grants := range map[string]map[string]bool{
		"user/Observation.rs": {
			"user/Observation.rs": true, "user/Observation.cruds": true, "user/*.rs": true, "user/*.cruds": true, "user/Observation.read": true, "user/*.read": true, "user/Observation.*": true, "user/*.*": true,
			"user/Observation.r user/Observation.s": true, "user/*.r user/Observation.s": true, "user/Observation.crs": true, "user/Patient.rs user/Observation.rs": true,
			"user/Observation.sr": false, "user/Observation.r": false, "user/Observation.s": false, "user/Observation.cud": false, "user/Observation.write": false, "user/Observation.r user/Patient.s": false,
			"patient/Observation.rs": false, "system/Observation.rs": false, "User/Observation.rs": false, "user/observation.rs": false, "user/Observations.rs": false, "user/Observation.RS": false, "user/Observation.rrs": false,
			"user/Observation.rss": false, "user/Observation.": false, "user/Observation": false, "user/.rs": false, "user/Obs*.rs": false, "user/*.rs?category=lab": false, "user/Observation.rs?category=lab": false, "user/Observation.rs?": false,
			"user/Observation.reads": false, "user/Observation.rs ": true, " user/Observation.rs": true, "user/Observation.rs.rs": false, "user//Observation.rs": false, "user/Observation/1.rs": false, "user/OBSERVATION.rs": false,
			"": false, "user/*.**": false, "user/**.rs": false, "*/*.rs": false, "user/Observation.rsx": false, "user\\Observation.rs": false, "user/\"Observation.rs": false,
		},
		"user/*.rs":             {"user/*.rs": true, "user/*.read": true, "user/Observation.rs": false, "user/*.r": false, "user/*.r user/*.s": true},
		"user/Observation.read": {"user/Observation.rs": true, "user/Observation.r": false, "user/Observation.read": true, "user/Observation.cud": false},
		"user/Observation.cud":  {"user/Observation.write": true, "user/Observation.rs": false, "user/Observation.*": true, "user/Observation.cd": false},
		"launch/patient":        {"launch/patient": true, "launch/Patient": false, "launch": false},
		"fhirUser":              {"fhirUser": true, "fhiruser": false},
	} {
		p := compile(t, "allow scope "+want+" GET,POST /x")
		for granted, ok := range grants {
			reason := ReasonScope
			if ok {
				reason = ReasonAllowed
			}
			checkAsks(t, p, []ask{{token("", strings.Split(granted, " ")...), "GET", "/x", reason}})
		}
	}
	p := compile(t, "allow scope patient/Observation.rs GET /fhir/Observation/**")
	checkAsks(t, p, []ask{
		{token("A", "patient/Observation.rs"), "GET", "/fhir/Observation?patient=A", ReasonAllowed},
		{token("A", "patient/Observation.rs"), "POST", "/fhir/Observation?patient=A", ReasonNoRule},
		{token("A", "patient/Observation.sr"), "GET", "/fhir/Observation?patient=A", ReasonScope},
	})
}

// TestRow75 A patient's scope opens what is this patient's only.
func TestRow75(t *testing.T) {
	p := compile(t, "allow scope patient/Observation.rs GET /fhir/Observation/** /fhir/Patient/{patient}/**", "allow scope patient/*.rs GET /all/**", "allow scope patient/Observation.c POST /fhir/Patient/{patient}/Observation")
	scopes := []string{"patient/*.cruds", "openid"}
	mine := token("Ab-1.2", scopes...)
	for target, reason := range map[string]string{
		"/fhir/Patient/Ab-1.2/Observation": ReasonAllowed, "/fhir/Patient/Ab-1.2": ReasonAllowed, "/fhir/Patient/%41b-1.2": ReasonAllowed, "/fhir/Patient/Ab-1.2/x?patient=Ab-1.2": ReasonAllowed,
		"/fhir/Patient/B": ReasonNoRule, "/fhir/Patient/ab-1.2": ReasonNoRule, "/fhir/Patient/Ab-1.2x": ReasonNoRule, "/fhir/patient/Ab-1.2": ReasonNoRule, "/fhir/Patient": ReasonNoRule, "/fhir/Patient/": ReasonNoRule,
		"/fhir/Patient/Ab-1.2/x?patient=B": ReasonNoRule, "/fhir/Patient/Ab-1.2/x?patient[]=B": ReasonNoRule, "/fhir/Patient/Ab-1.2/x?%20patient=B": ReasonNoRule,

		"/fhir/Observation?patient=Ab-1.2": ReasonAllowed, "/fhir/Observation?code=x&patient=Patient/Ab-1.2&_count=5": ReasonAllowed, "/fhir/Observation?subject=Patient%2FAb-1.2": ReasonAllowed, "/fhir/Observation?subject:Patient=Ab-1.2": ReasonAllowed,
		"/fhir/Observation?p%61tient=%41b-1.2": ReasonAllowed, "/fhir/Observation?patient=Ab-1.2&patient=Patient/Ab-1.2": ReasonAllowed, "/fhir/Observation?patient%3aPatient=Ab-1.2": ReasonAllowed, "/fhir/Observation?subject-x=B&patientid=B&patient=Ab-1.2": ReasonAllowed,
		"/fhir/Observation": ReasonNoRule, "/fhir/Observation?": ReasonNoRule, "/fhir/Observation?patient=B": ReasonNoRule, "/fhir/Observation?patient=": ReasonNoRule, "/fhir/Observation?patient": ReasonNoRule,
		"/fhir/Observation?patient=Ab-1.2,B": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2%2CB": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2&patient=B": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2&subject=B": ReasonNoRule,
		"/fhir/Observation?patient=Ab-1.2&Patient=B": ReasonNoRule, "/fhir/Observation?PATIENT=Ab-1.2": ReasonNoRule, "/fhir/Observation?+patient=Ab-1.2": ReasonNoRule, "/fhir/Observation?%C2%A0patient=Ab-1.2": ReasonNoRule, "/fhir/Observation?-patient=Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2&pat%69ent=B": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2&+patient=B": ReasonNoRule,
		// A modifier turns the meaning about, and one that a server does not know may be ignored together with its value.
		"/fhir/Observation?patient:not=Ab-1.2": ReasonNoRule, "/fhir/Observation?patient:missing=Ab-1.2": ReasonNoRule, "/fhir/Observation?patient.name=Ab-1.2": ReasonNoRule, "/fhir/Observation?subject:Group=Ab-1.2": ReasonNoRule,
		"/fhir/Observation?patient=Ab-1.2&subject:Patient.name=x": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2&patient:identifier=x": ReasonNoRule,
		"/fhir/Observation?x=1;patient=B&patient=Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2;patient=B": ReasonNoRule, "/fhir/Observation?%zz&patient=Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2%": ReasonNoRule,
		"/fhir/Observation?patient=Patient/Patient/Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=patient/Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=https://x/Patient/Ab-1.2": ReasonNoRule, "/fhir/Observation?patient=Ab-1.2%00": ReasonNoRule,
		"/fhir/Observation?patient=Ab-1.2/_history/1": ReasonNoRule, "/fhir/Observation?" + strings.Repeat("a", 200) + "=1&patient=Ab-1.2": ReasonAllowed, "/fhir/Observation?patient=Ab-1.2" + strings.Repeat("a", 200): ReasonNoRule,
		// Reads by id pay no regard to a query: whose the resource is cannot be seen.
		"/fhir/Observation/123?patient=Ab-1.2": ReasonNoRule, "/fhir/Observation/?patient=Ab-1.2": ReasonNoRule, "/fhir/Observation/_history?patient=Ab-1.2": ReasonNoRule, "/fhir/Observation/Observation?patient=Ab-1.2": ReasonNoRule,
		"/all/Patient/Smith?patient=Ab-1.2": ReasonNoRule, "/all/Condition?patient=Ab-1.2": ReasonAllowed, "/all/metadata?patient=Ab-1.2": ReasonNoRule, "/all/$graphql?patient=Ab-1.2": ReasonNoRule, "/all?patient=Ab-1.2": ReasonNoRule,
	} {
		checkAsks(t, p, []ask{{mine, "GET", target, reason}})
	}
	checkAsks(t, p, []ask{
		{mine, "POST", "/fhir/Patient/Ab-1.2/Observation", ReasonAllowed}, {mine, "POST", "/fhir/Patient/B/Observation", ReasonNoRule},
		{token("", scopes...), "GET", "/fhir/Patient/Ab-1.2", ReasonNoRule}, {token("", scopes...), "GET", "/fhir/Observation?patient=Ab-1.2", ReasonNoRule}, {token("", scopes...), "GET", "/fhir/Observation?patient=", ReasonNoRule},
		{token("Ab-1.2"), "GET", "/fhir/Patient/Ab-1.2", ReasonScope}, {token(""), "GET", "/fhir/Observation?patient=Ab-1.2", ReasonScope}, {token("Ab-1.2"), "GET", "/fhir/Patient/B", ReasonNoRule},
		{token("A,B", scopes...), "GET", "/fhir/Observation?patient=A,B", ReasonNoRule}, {token("A B", scopes...), "GET", "/fhir/Patient/A%20B", ReasonNoRule}, {token("*", scopes...), "GET", "/fhir/Patient/*", ReasonNoRule},
		{token("a_b", scopes...), "GET", "/fhir/Patient/a_b", ReasonNoRule}, {token(strings.Repeat("a", 65), scopes...), "GET", "/fhir/Patient/" + strings.Repeat("a", 65), ReasonNoRule},
		{&Subject{Username: "u", Patient: "Ab-1.2", Scopes: scopes}, "GET", "/fhir/Patient/Ab-1.2", ReasonNoRule},
	})
}

// TestRow75Searches A search that a server does not narrow to the patient is a search for everybody's resources.
func TestRow75Searches(t *testing.T) {
	p := compile(t, "allow scope patient/*.rs GET /fhir/**", "allow scope patient/*.rs GET /own/Patient/{patient}/**")
	blanks := strings.Repeat("+", 130)
	for target, reason := range map[string]string{
		"/fhir/Observation?subject=Patient/A": ReasonAllowed, "/fhir/AllergyIntolerance?patient=A": ReasonAllowed, "/fhir/Condition?subject:Patient=A": ReasonAllowed,
		// These types have no such parameter, and servers ignore what they do not know.
		"/fhir/Patient?patient=A": ReasonNoRule, "/fhir/Patient?subject=Patient/A": ReasonNoRule, "/fhir/Practitioner?patient=A": ReasonNoRule, "/fhir/Group?patient=A": ReasonNoRule, "/fhir/Binary?patient=A": ReasonNoRule,
		"/fhir/AllergyIntolerance?subject=Patient/A": ReasonNoRule, "/fhir/Immunization?subject:Patient=A": ReasonNoRule, "/fhir/AdverseEvent?patient=A": ReasonNoRule, "/fhir/Appointment?subject=Patient/A": ReasonNoRule,
		"/fhir/Unheard?patient=A": ReasonNoRule, "/Fhir?patient=A": ReasonNoRule,
		// A group can have the patient's id.
		"/fhir/Observation?subject=A": ReasonNoRule, "/fhir/Observation?subject=A&patient=A": ReasonAllowed,
		// A compartment is its owner's.
		"/fhir/Patient/B/Observation?patient=A": ReasonNoRule, "/fhir/Encounter/1/Observation?patient=A": ReasonNoRule,
		// What leads on to others.
		"/fhir/Observation?patient=A&_revinclude:iterate=Observation:performer": ReasonNoRule, "/fhir/Observation?patient=A&_include=Observation:performer": ReasonNoRule, "/fhir/Observation?patient=A&%5FInclude%3aiterate=x": ReasonNoRule,
		"/own/Patient/A/Observation?_revinclude=Provenance:target": ReasonNoRule, "/own/Patient/A/$graphql?query={a}": ReasonNoRule, "/own/Patient/A/%24GraphQL?query={a}": ReasonNoRule, "/own/Patient/A/$everything": ReasonAllowed,
		"/fhir/Observation?patient=A&.include=x": ReasonNoRule, "/fhir/Observation?patient=A&_included=x": ReasonAllowed, "/fhir/Observation?patient=A&x=_include": ReasonAllowed,
		// Several readers drop blanks before a name, however many.
		"/fhir/Observation?patient=A&" + blanks + "patient=B": ReasonNoRule, "/own/Patient/A/Observation?" + blanks + "patient=B": ReasonNoRule, "/own/Patient/A/Observation?" + blanks + "_include=x": ReasonNoRule,
	} {
		path, query, _ := strings.Cut(target, "?")
		checkAsks(t, p, []ask{{token("A", "patient/*.cruds"), "GET", path + "?" + query, reason}})
	}
	for _, target := range []string{"/fhir/Observation?patient=A", "/own/Patient/A/Observation"} {
		path, query, _ := strings.Cut(target, "?")
		if d := p.Decide(Request{Method: "GET", Path: parse(t, path), Query: query, Body: true, Who: token("A", "patient/*.rs")}); d.Reason != ReasonNoRule {
			t.Errorf("%s with a body: %+v", target, d)
		}
	}
	for _, words := range []string{"allow scope patient/Patient.rs GET /fhir/Patient", "allow scope patient/Practitioner.rs GET /fhir/Practitioner"} {
		if _, err := Compile(lines(words)); err == nil || !strings.Contains(err.Error(), "{patient}") {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// TestRow74Includes What a search brings along is of other types than the scope's.
func TestRow74Includes(t *testing.T) {
	p := compile(t, "allow scope system/Observation.rs GET /fhir/Observation", "allow scope user/*.rs GET /fhir/Condition", "allow scope notes GET /notes")
	one := token("", "system/Observation.cruds", "user/*.rs", "notes")
	checkAsks(t, p, []ask{
		{one, "GET", "/fhir/Observation?code=x;y", ReasonAllowed}, {one, "GET", "/fhir/Observation?_include=Observation:patient", ReasonNoRule}, {one, "GET", "/fhir/Observation?code=x;_revinclude=Provenance:target", ReasonNoRule},
		{token("", "system/Observation.cruds", "system/*.r"), "GET", "/fhir/Observation?_include=Observation:patient", ReasonAllowed}, {token("", "system/Patient.rs"), "GET", "/fhir/Observation?_include=x", ReasonNoRule},
		{one, "GET", "/fhir/Condition?_include=x", ReasonAllowed}, {one, "GET", "/notes?_include=x", ReasonAllowed},
	})
}

func TestScopesAreTold(t *testing.T) {
	p := compile(t, "allow scope b,a GET /x", "allow scope user/*.rs role lab GET /y", "allow any")
	if got := p.Scopes(); !reflect.DeepEqual(got, []string{"a", "b", "user/*.rs"}) || !p.Uses().Bearer {
		t.Errorf("%q", got)
	}
	p.Scopes()[0] = "changed"
	if p.Scopes()[0] != "a" || !reflect.DeepEqual(p.Roles(), []string{"lab"}) || p.Uses().Username {
		t.Error("names")
	}
	if !compile(t, "allow scope a user u").Uses().Username || compile(t, "allow any").Uses().Bearer {
		t.Error("uses")
	}
	var none *Policy
	if none.Scopes() != nil || none.Uses().Bearer {
		t.Error("nil policy")
	}
}

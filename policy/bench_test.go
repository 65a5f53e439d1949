package policy

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkDecide shows that the cost does not follow the number of rules.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		texts := make([]Line, 0, n)
		for i := range n {
			words := []string{"allow", "role", fmt.Sprintf("r%d", i%50), "GET,POST", fmt.Sprintf("/api/v%d/patients/*/charts/c%d", i%7, i)}
			switch i % 10 {
			case 0:
				words = []string{"deny", "user", fmt.Sprintf("u%d", i), fmt.Sprintf("/api/v%d/**", i%7)}
			case 1:
				words = []string{"allow", "role", "patient", "GET", fmt.Sprintf("/portal%d/{user}/**", i)}
			}
			texts = append(texts, Line{Words: words, At: fmt.Sprintf("Caddyfile:%d", i)})
		}
		p, err := Compile(texts)
		if err != nil {
			b.Fatal(err)
		}
		path, who := parse(b, "/api/v2/patients/4711/charts/c2"), &Subject{Username: "doctor", Roles: []string{"staff", "r2"}}
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(Request{Method: "GET", Path: path, Who: who}).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkDecideFull has lines of all kinds, each with conditions that are not expressions.
func BenchmarkDecideFull(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		texts := []string{"allow role r2 group g2 /api/v2/patients/{p}/charts/c2 network hospital hours 00:00-24:00 Europe/Brussels", "require network hospital /api/**", "require acr mfa /api/v2/**"}
		for i := range n - len(texts) {
			texts = append(texts, fmt.Sprintf("allow role r%d group g%d GET,POST /api/v%d/patients/{p}/charts/c%d network hospital acr a%d", i%50, i%7, i%7, i, i))
		}
		p := with(b, Config{Networks: plainNetworks}, texts...)
		who := &Subject{Username: "doctor", Roles: []string{"staff", "r2"}, Groups: []string{"g1", "g2"}, ACR: "mfa"}
		r := Request{Method: "GET", Path: parse(b, "/api/v2/patients/4711/charts/c2"), Who: who, Now: noon, Addr: netip.MustParseAddr("10.1.2.3")}
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(r).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkDecideWhen is one expression on the way.
func BenchmarkDecideWhen(b *testing.B) {
	for name, text := range map[string]string{"hours": `request.time.getHours("Europe/Brussels") < 24`, "variable": `path.p == "4711" && "r2" in user.roles`} {
		p := with(b, Config{}, "allow role r2 /patients/{p}/** when "+text, "deny role x /patients/**")
		r := Request{Method: "GET", Path: parse(b, "/patients/4711/charts"), Who: &Subject{Username: "doctor", Roles: []string{"r2"}}, Now: noon}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(r).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkDecideToken is a token with as many scopes as SMART clients ask for, and a session that has to meet two require lines.
func BenchmarkDecideToken(b *testing.B) {
	p := compile(b, "allow scope patient/Condition.rs,patient/Observation.rs GET /fhir/Condition/** /fhir/Observation/**", "allow any /app/**", "require acr mfa /app/**", "require max_age 1h")
	who := &Subject{Username: "a", Patient: "A-1", Bearer: true, ACR: "mfa", AuthTime: noon, Scopes: []string{"openid", "fhirUser", "launch/patient", "offline_access"}}
	for _, kind := range []string{"Allergy", "Immunization", "Patient", "Condition", "Encounter", "Medication", "Procedure", "Observation"} {
		who.Scopes = append(who.Scopes, "patient/"+kind+".rs")
	}
	person := *who
	person.Bearer = false
	for name, r := range map[string]Request{
		"token":   {Method: "GET", Path: parse(b, "/fhir/Observation"), Query: "code=8867-4&patient=Patient/A-1&_count=50", Who: who, Now: noon},
		"require": {Method: "GET", Path: parse(b, "/app/x"), Who: &person, Now: noon},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(r).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkParsePath(b *testing.B) {
	for _, path := range []string{"/api/v2/patients/4711/charts/c2", "/api/Patients/J%C3%BCrgen"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = ParsePath(path)
			}
		})
	}
}

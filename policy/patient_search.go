package policy

import "strings"

// What the query of a search says, as flags.
const (
	byPatient = 1 << iota // it names the patient by the parameter patient
	bySubject             // likewise by subject
	another               // it could name another patient, or be read in two ways
)

// searched holds the parameters by which the resources of a type can be searched for a patient (FHIR R4 and R5, the list of search
// parameters). A server ignores what it does not know (FHIR R4 section 3.1.1.3.1), so that Patient?patient=ID, or
// AllergyIntolerance?subject=ID, is a search for everybody's. A type that is not here is reached by a {patient} in the path only.
var searched = func() map[string]uint8 {
	m := map[string]uint8{}
	for kinds, parameters := range map[string]uint8{
		`Account Basic CarePlan ChargeItem ClinicalImpression Communication CommunicationRequest Composition Condition DeviceRequest
		DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter EnrollmentRequest Flag Goal GuidanceResponse
		ImagingStudy Invoice List MeasureReport Media MedicationAdministration MedicationDispense MedicationRequest MedicationStatement
		Observation Procedure QuestionnaireResponse RequestGroup RequestOrchestration RiskAssessment ServiceRequest Specimen Task`: byPatient | bySubject,
		`AllergyIntolerance Appointment AppointmentResponse AuditEvent BodyStructure CareTeam Claim ClaimResponse Consent Coverage
		CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceUsage EpisodeOfCare ExplanationOfBenefit
		FamilyMemberHistory GenomicStudy ImagingSelection Immunization ImmunizationEvaluation ImmunizationRecommendation MolecularSequence
		NutritionIntake NutritionOrder Person Provenance RelatedPerson ResearchSubject SupplyDelivery VisionPrescription`: byPatient,
		`AdverseEvent`: bySubject,
	} {
		for kind := range strings.FieldsSeq(kinds) {
			m[kind] = parameters
		}
	}
	return m
}()

// isSearch reports whether a path and what its query says are a search for one patient's resources of the type, or for "*" of any
// type: the path ends in the type, and not in the id of something, nor in somebody's compartment.
func isSearch(path, kind string, said uint8) bool {
	rest, last := cutLast(path)
	if kind != "*" && last != kind || searched[last]&said == 0 {
		return false
	}
	rest, before := cutLast(rest)
	_, owner := cutLast(rest)
	switch owner {
	case "Patient", "Encounter", "Practitioner", "RelatedPerson", "Device":
		return false // Patient/ID/Observation is about that ID, whatever the query says besides
	}
	return !isResource(before)
}

// cutLast splits "/a/b" into "/a" and "b".
func cutLast(path string) (rest, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// isGraph reports whether a path asks for GraphQL, which follows references from one patient to the next.
func isGraph(folded string) bool {
	_, last := cutLast(strings.TrimSuffix(folded, "/"))
	return last == "$graphql"
}

// includes reports whether a query could ask for resources besides those that are searched (_include, _revinclude): of other types,
// and by steps from one to the next (:iterate) of other patients. Names are read as laxly as those of a patient.
func includes(query string) bool {
	for query != "" {
		pair := query
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = ""
		}
		name, _, _ := strings.Cut(pair, "=")
		var b [2 * maxID]byte
		text, ok := unescape(&b, name)
		if !ok || isCut(text) {
			return true
		}
		for len(text) > 0 && (text[0] == '_' || !isWord(text[0])) {
			text = text[1:]
		}
		if isNamed(text, "include") || isNamed(text, "revinclude") {
			return true
		}
	}
	return false
}

// isCut reports whether the start of a name that was too long to be kept hides what some reader makes of it: several drop what is
// before the first letter.
func isCut(name []byte) bool { return len(name) == 2*maxID && !isWord(name[0]) }

// isNamed reports whether a name is the text, in any case and with whatever modifier.
func isNamed(name []byte, text string) bool {
	n := len(text)
	return len(name) >= n && equalFold(text, string(name[:n])) && (len(name) == n || !isWord(name[n]) && name[n] != '-')
}

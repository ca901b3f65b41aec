package dynamo

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// result says what is known after one call, or after one statement of a batch.
type result string

// The results, with the values of the metric label.
const (
	done      result = "ok"
	unmet     result = "condition" // the condition of a write did not hold: nothing was changed
	throttled result = "throttled" // refused for lack of capacity: nothing was done, repeat with backoff
	refused   result = "refused"   // refused: nothing was done, and a repeat does not help
	unsent    result = "unsent"    // no connection carried it: nothing was done
	unknown   result = "unknown"   // no answer, or one that does not tell: it may be done, now or later
)

var results = []result{done, unmet, throttled, refused, unsent, unknown}

// resultByCode has the codes that certainly mean "nothing was done" in an answer with status 400. Any other code is
// unknown: a new code must not turn "may be done" into "was not done".
var resultByCode = map[string]result{
	"ConditionalCheckFailedException":        unmet,
	"ProvisionedThroughputExceededException": throttled,
	"RequestLimitExceeded":                   throttled,
	"ThrottlingException":                    throttled,
	"Throttling":                             throttled,
	"AccessDeniedException":                  refused,
	"ExpiredTokenException":                  refused,
	"IncompleteSignatureException":           refused,
	"InvalidSignatureException":              refused,
	"MissingAuthenticationTokenException":    refused,
	"ResourceNotFoundException":              refused,
	"SerializationException":                 refused,
	"UnrecognizedClientException":            refused,
	"ValidationException":                    refused,
}

// statementError is the error of one statement of a batch.
type statementError struct {
	result result
	answer *types.BatchStatementError
}

// Error implements error.
func (e *statementError) Error() string {
	return fmt.Sprintf("%s: %s", e.answer.Code, aws.ToString(e.answer.Message))
}

// isInvalid says whether a call was refused for what it asks of the items, and not for who asks or for the table.
func isInvalid(err error) bool {
	var api smithy.APIError
	return resultOf(err) == refused && errors.As(err, &api) && api.ErrorCode() == "ValidationException"
}

// resultOf returns the result of a call or of a statement. It uses codes, never texts (rule C3).
func resultOf(err error) result {
	var statement *statementError
	var lost *unsentError
	var answer *awshttp.ResponseError
	var api smithy.APIError
	switch {
	case err == nil:
		return done
	case errors.As(err, &statement):
		return statement.result
	case errors.As(err, &lost):
		return unsent
	case errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusBadRequest && errors.As(err, &api):
		if r, ok := resultByCode[api.ErrorCode()]; ok {
			return r
		}
	}
	return unknown
}

// resultOfStatement is resultOf for one statement of a batch, which has other codes.
func resultOfStatement(err *types.BatchStatementError) result {
	if err == nil {
		return done
	}
	switch err.Code {
	case types.BatchStatementErrorCodeEnumConditionalCheckFailed:
		return unmet
	case types.BatchStatementErrorCodeEnumProvisionedThroughputExceeded,
		types.BatchStatementErrorCodeEnumRequestLimitExceeded,
		types.BatchStatementErrorCodeEnumThrottlingError:
		return throttled
	case types.BatchStatementErrorCodeEnumAccessDenied, types.BatchStatementErrorCodeEnumResourceNotFound,
		types.BatchStatementErrorCodeEnumValidationError:
		return refused
	default: // a new code must not turn "may be done" into "was not done"
		return unknown
	}
}

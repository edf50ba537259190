"""The description is what is served."""

from headwater.http.authentication import Bearer

from .asgi import ask
from .subjects import Subjects
from .test_authentication import find_user


async def test_every_endpoint_is_described_with_its_types() -> None:
    described = (await ask(Subjects().api(), "GET", "/openapi.json")).json
    assert described["openapi"] == "3.1.0"
    assert described["info"] == {"title": "Subjects", "version": "1.0"}
    assert set(described["paths"]) == {"/subjects", "/subjects/{name}", "/me", "/text", "/fail", "/wait", "/large"}
    create = described["paths"]["/subjects"]["post"]
    subject = {"$ref": "#/components/schemas/Subject"}
    assert create["summary"] == "A new one"
    assert create["requestBody"]["content"] == {"application/json": {"schema": subject}}
    assert create["responses"]["201"]["content"] == {"application/json": {"schema": subject}}
    assert create["responses"]["default"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    }
    schemas = described["components"]["schemas"]
    assert schemas["Subject"]["properties"]["version"] == {"type": "integer", "default": 1}
    assert set(schemas["ErrorBody"]["required"]) == {"error_code", "message"}


async def test_a_parameter_of_a_path_and_an_answer_without_a_body() -> None:
    paths = (await ask(Subjects().api(), "GET", "/openapi.json")).json["paths"]
    delete = paths["/subjects/{name}"]["delete"]
    assert delete["parameters"] == [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    assert set(delete["responses"]) == {"204", "default"}
    assert paths["/text"]["get"]["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}


async def test_authentication_is_described() -> None:
    api = Subjects().api(authentication=Bearer(find_user))
    described = (await ask(api, "GET", "/openapi.json", headers={"Authorization": "Bearer t0ken"})).json
    assert described["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert described["security"] == [{"bearer": []}]

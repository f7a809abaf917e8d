// What TypeScript must refuse: each body of begin, and why.
import createClient from "openapi-fetch";
import type {paths} from "./schema.js";

const django = createClient<paths>();

django.POST("/api/uploads/", {body: {}}); // destination, filename, size
django.POST("/api/uploads/", {body: {destination: "photos", filename: "a.png"}}); // 'size' is missing
django.POST("/api/uploads/", {body: {destination: "photos", filename: "a.png", size: "5"}}); // 'string' is not assignable to type 'number'
django.POST("/api/uploads/"); // Expected 2 arguments

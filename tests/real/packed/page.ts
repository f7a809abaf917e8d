// What a page imports besides.
import {S3Upload} from "s3direct-uploads/element.js";
import {explain, texts} from "s3direct-uploads/texts.js";

export const words: string = explain(new Error("no"), {filename: "beach.jpg", size: 5}, "en");
export const values: string[] = new S3Upload().values;
texts.choose = "Datei wählen";
